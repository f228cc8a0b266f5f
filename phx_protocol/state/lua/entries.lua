-- All entries of a group. ARGV: group. Returns epoch (false for none), n, and the hash.
local epoch, n = unpack(redis.call('HMGET', P .. 'position:' .. ARGV[1], 'epoch', 'n'))
return {epoch, tonumber(n or 0), redis.call('HGETALL', P .. 'group:' .. ARGV[1])}
