-- ARGV[7]: who asks. ARGV[8]: its worker. Also after the lease's end, if nobody else had the worker since: the timestamps
-- between were nobody's.
if redis.call('HGET', holders, ARGV[8]) ~= ARGV[7] then return {'lost'} end
local till = math.max(now + length, tonumber(redis.call('ZSCORE', untils, ARGV[8])))
redis.call('ZADD', untils, text(till), ARGV[8])
return {'ok', text(till)}
