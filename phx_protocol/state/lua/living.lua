-- Read the live nodes. KEYS: leases, abouts. Returns their names, and the `about` of each.
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
return {names, #names > 0 and redis.call('HMGET', KEYS[2], unpack(names)) or {}}
