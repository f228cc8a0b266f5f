-- Count the kept broadcasts. ARGV: topic, ttl ms. Returns epoch (false for none), n, and how many.
local h = head(ARGV[1])
if not h.epoch then return {false, 0, 0} end
trim(ARGV[1], h, tonumber(ARGV[2]), math.huge)
return {h.epoch, string.format('%.0f', h.n), redis.call('XLEN', P .. 'history:' .. ARGV[1])}
