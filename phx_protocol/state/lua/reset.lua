-- Forget a history. ARGV: topic.
redis.call('DEL', P .. 'head:' .. ARGV[1], P .. 'history:' .. ARGV[1])
