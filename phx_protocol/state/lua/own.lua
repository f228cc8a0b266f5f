-- Record again in which groups a node has entries: the set may have been evicted. ARGV: node, expiry ms, groups...
local groups = P .. 'groups:' .. ARGV[1]
if not redis.call('ZSCORE', P .. 'nodes', ARGV[1]) then return end
for i = 3, #ARGV do redis.call('SADD', groups, ARGV[i]) end
redis.call('PEXPIRE', groups, ARGV[2])
