-- Read the next entries that were changed after the n-th step. KEYS: at, entries, recent. ARGV: epoch, n, most steps.
-- Returns n after these steps, their refs, and the entry of each (false if it is dropped); or false if not all are known.
local epoch, last, size = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'n', 'size'))
local n, most = tonumber(ARGV[2]), tonumber(ARGV[3])
if epoch ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) ~= (size == '0' and 0 or 1) then return false end
local steps = tonumber(last) - n
if steps == 0 then return {n, {}, {}} end
if redis.call('LLEN', KEYS[3]) < steps then return false end
local count = math.min(steps, most)
local refs = redis.call('LRANGE', KEYS[3], -steps, count - steps - 1)
return {n + count, refs, redis.call('HMGET', KEYS[2], unpack(refs))}
