-- Set the subscribers of topics. KEYS: leases, topics of the node. ARGV: node, expiry ms, topic, count, topic, count...
-- Returns how many topics of the node have subscribers.
local leases, topics = unpack(KEYS)
if not redis.call('ZSCORE', leases, ARGV[1]) then return 0 end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', topics, ARGV[i])
  else
    redis.call('HSET', topics, ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', topics, ARGV[2])
return redis.call('HLEN', topics)
