-- Read the position of a history; begin it if there is none. KEYS: head, stream. ARGV: a new epoch, expiry ms, expiry ms
-- of an empty one. Returns epoch and n.
if redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1]) == 1 then redis.call('UNLINK', KEYS[2]) end
local epoch, n = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'n'))
redis.call('PEXPIRE', KEYS[1], n and ARGV[2] or ARGV[3])
return {epoch, tonumber(n or 0)}
