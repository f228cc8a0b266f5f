-- What live nodes say. KEYS: prefix. ARGV: "node" or "topics". Returns node, what it says, ...
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. 'nodes', '(' .. now, '+inf')) do
  local key = KEYS[1] .. ARGV[1] .. ':' .. node
  found[#found + 1] = node
  found[#found + 1] = redis.call(ARGV[1] == 'node' and 'GET' or 'HGETALL', key)
end
return found
