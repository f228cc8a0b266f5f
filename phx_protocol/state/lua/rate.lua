-- Count one of so many in so many ms, which may all come at once. KEYS: the time until which the rate is used up.
-- ARGV: times, ms. Returns the ms until one more is allowed; if that is 0, one was counted.
local times, ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local till = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local step = ms / times
local wait = till + step - ms - now
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', till + step), 'PX', math.ceil(ms + step))
return 0
