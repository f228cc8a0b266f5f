-- Set the subscribers of topics. ARGV: node, expiry ms, topic, count, topic, count...
-- Returns how many topics of the node have subscribers.
local key = P .. 'topics:' .. ARGV[1]
if not redis.call('ZSCORE', P .. 'nodes', ARGV[1]) then return 0 end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', key, ARGV[i])
  else
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', key, ARGV[2])
return redis.call('HLEN', key)
