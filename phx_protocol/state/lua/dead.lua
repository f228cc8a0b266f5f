-- List dead nodes. KEYS: leases, abouts. ARGV: silence ms, most nodes, then nodes that have entries in groups: those
-- that have no lease are dead too.
local leases, abouts = unpack(KEYS)
if redis.call('ZCARD', leases) < redis.call('HLEN', abouts) then
  -- the set of leases was evicted: they get a new one
  for _, node in ipairs(redis.call('HKEYS', abouts)) do
    redis.call('ZADD', leases, 'NX', now + ARGV[1], node)
    redis.call('PEXPIRE', leases, redis.call('PTTL', abouts))
  end
end
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[2])
for i = 3, #ARGV do
  local till = string.match(ARGV[i], '^~(%d+)$')  -- entries that wait: see wait.lua
  if till and tonumber(till) <= now or not till and not redis.call('ZSCORE', leases, ARGV[i]) then
    dead[#dead + 1] = ARGV[i]
  end
end
return dead
