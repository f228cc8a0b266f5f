-- Where a history is; it begins when there is none. ARGV: topic, a new epoch, expiry ms.
local at = P .. 'head:' .. ARGV[1]
if redis.call('HSETNX', at, 'epoch', ARGV[2]) == 1 then
  redis.call('DEL', P .. 'history:' .. ARGV[1])
end
redis.call('PEXPIRE', at, ARGV[3])
return redis.call('HMGET', at, 'epoch', 'n')
