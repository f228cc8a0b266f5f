-- List the nodes that have entries in groups of this hash tag. KEYS: owners.
return redis.call('SMEMBERS', KEYS[1])
