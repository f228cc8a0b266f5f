-- Forget a history. KEYS: head, stream.
redis.call('UNLINK', KEYS[1], KEYS[2])
