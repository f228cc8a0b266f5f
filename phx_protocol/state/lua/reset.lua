-- Forget a history. KEYS: prefix. ARGV: topic.
redis.call('DEL', KEYS[1] .. 'head:' .. ARGV[1], KEYS[1] .. 'history:' .. ARGV[1])
