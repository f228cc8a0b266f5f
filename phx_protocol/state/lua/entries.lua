-- Read all entries of a group. ARGV: group. Returns epoch (false for none), n, and the hash.
local epoch, n = position(ARGV[1])
if not epoch then return {false, 0, {}} end
return {epoch, n, redis.call('HGETALL', P .. 'group:' .. ARGV[1])}
