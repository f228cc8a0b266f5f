-- Count the kept broadcasts. KEYS: head, stream. ARGV: ttl ms. Returns epoch (false for none), n, and how many.
local at, stream = unpack(KEYS)
local h = head(at)
if not h.epoch then return {false, 0, 0} end
trim(at, stream, h, tonumber(ARGV[1]), math.huge)
return {h.epoch, string.format('%.0f', h.n), redis.call('XLEN', stream)}
