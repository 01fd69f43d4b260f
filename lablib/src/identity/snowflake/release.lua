-- ARGV[7]: who gives it back. ARGV[8]: its worker. ARGV[9]: the first timestamp that it did not use.
if redis.call('HGET', holders, ARGV[8]) ~= ARGV[7] then return {'lost'} end
redis.call('ZADD', untils, 'LT', ARGV[9], ARGV[8])
redis.call('HDEL', holders, ARGV[8])
return {'ok', ARGV[9]}
