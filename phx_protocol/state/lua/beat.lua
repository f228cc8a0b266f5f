-- Renew a lease. KEYS: leases, abouts, topics of the node. ARGV: node, about, silence ms, expiry ms, first ("1" or "").
local leases, abouts, topics = unpack(KEYS)
local node = ARGV[1]
local till = redis.call('ZSCORE', leases, node)
if till and tonumber(till) <= now then return 0 end
-- a node that was removed has no `about`; if it has one, only the set of leases was evicted
if not till and ARGV[5] == '' and redis.call('HEXISTS', abouts, node) == 0 then return 0 end
redis.call('ZADD', leases, now + ARGV[3], node)
redis.call('HSET', abouts, node, ARGV[2])
for _, key in ipairs({leases, abouts, topics}) do redis.call('PEXPIRE', key, ARGV[4]) end
return 1
