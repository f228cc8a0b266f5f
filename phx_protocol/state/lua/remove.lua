-- Remove a node that owns nothing else any more. KEYS: leases, abouts, topics of the node. ARGV: node.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[3])
