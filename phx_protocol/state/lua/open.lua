-- Read the position of a history; begin it if there is none. ARGV: topic, a new epoch, expiry ms, expiry ms
-- of an empty one.
local at = P .. 'head:' .. ARGV[1]
if redis.call('HSETNX', at, 'epoch', ARGV[2]) == 1 then
  redis.call('DEL', P .. 'history:' .. ARGV[1])
end
local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
redis.call('PEXPIRE', at, n and ARGV[3] or ARGV[4])
return {epoch, tonumber(n or 0)}
