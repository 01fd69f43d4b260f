-- ARGV[7]: who gives it back. ARGV[8]: its worker. ARGV[9]: the first timestamp that it did not use. Who has given it
-- back, and asks again since the answer was lost, is told so, whoever has the worker by now.
if redis.call('LPOS', given, ARGV[7]) then return {'ok', ARGV[9]} end
if redis.call('HGET', holders, ARGV[8]) ~= ARGV[7] then return {'lost'} end
redis.call('ZADD', untils, 'LT', ARGV[9], ARGV[8])
redis.call('HDEL', holders, ARGV[8])
redis.call('LPUSH', given, ARGV[7])
redis.call('LTRIM', given, 0, 1023)
keep()
return {'ok', ARGV[9]}
