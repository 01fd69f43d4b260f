-- ARGV[7]: who asks. A worker that was never leased, else the one whose lease ended first.
if now < opens then return {'closed', text(opens)} end
local worker = text(used)
if used < workers then
  redis.call('HSET', record, 'used', used + 1)
else
  local first = redis.call('ZRANGE', untils, 0, 0, 'WITHSCORES')
  if tonumber(first[2]) > now then return {'taken', first[2]} end
  worker = first[1]
end
redis.call('ZADD', untils, text(now + length), worker)
redis.call('HSET', holders, worker, ARGV[7])
keep()
return {'ok', worker, text(now), text(now + length)}
