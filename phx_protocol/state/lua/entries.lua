-- Read the position of a group, and its entries if they are few. KEYS: at, entries. ARGV: most entries.
-- Returns epoch (false for none), n, and ref, entry, ref, entry...; false in place of that if they are more.
local epoch, n, size = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'n', 'size'))
if not epoch or redis.call('HLEN', KEYS[2]) ~= tonumber(size) then return {false, 0, {}} end
return {epoch, tonumber(n), tonumber(size) <= tonumber(ARGV[1]) and redis.call('HGETALL', KEYS[2])}
