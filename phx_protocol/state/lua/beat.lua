-- Renew a lease. ARGV: node, about, silence ms, expiry ms, first ("1" or "").
local node = ARGV[1]
local till = redis.call('ZSCORE', P .. 'nodes', node)
if till and tonumber(till) <= now then return 0 end
-- a node that was removed has no `node:` key; if it has one, only the set of leases was evicted
if not till and ARGV[5] == '' and redis.call('EXISTS', P .. 'node:' .. node) == 0 then return 0 end
redis.call('ZADD', P .. 'nodes', now + ARGV[3], node)
redis.call('SET', P .. 'node:' .. node, ARGV[2])
for _, kind in ipairs({'nodes', 'node:' .. node, 'topics:' .. node, 'groups:' .. node}) do
  redis.call('PEXPIRE', P .. kind, ARGV[4])
end
return 1
