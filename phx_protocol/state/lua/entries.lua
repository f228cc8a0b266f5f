-- All entries of a group. KEYS: prefix. ARGV: group. Returns epoch (false for none), n, and the hash.
local epoch, n = unpack(redis.call('HMGET', KEYS[1] .. 'position:' .. ARGV[1], 'epoch', 'n'))
return {epoch, tonumber(n or 0), redis.call('HGETALL', KEYS[1] .. 'group:' .. ARGV[1])}
