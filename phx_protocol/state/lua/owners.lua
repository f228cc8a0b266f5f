-- List the nodes that have entries in groups of this hash tag, or names. KEYS: owners, and the holders of each kind.
return redis.call('SUNION', unpack(KEYS))
