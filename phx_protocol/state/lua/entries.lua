-- Read the position of a group, and its entries if they are few. KEYS: at, entries. ARGV: most entries.
-- Returns epoch (false for none), n, and ref, entry, ref, entry...; false in place of that if they are more.
local epoch, n, size = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'n', 'size'))
local all = redis.call('HLEN', KEYS[2])
-- as in group.lua: if one of the keys is missing, the group is lost
if not epoch or (all > 0) ~= (size ~= '0') then return {false, 0, {}} end
return {epoch, tonumber(n), all <= tonumber(ARGV[1]) and redis.call('HGETALL', KEYS[2])}
