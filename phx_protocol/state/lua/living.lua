-- What live nodes say. ARGV: "node" or "topics". Returns node, what it says, ...
local found = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', P .. 'nodes', '(' .. now, '+inf')) do
  local key = P .. ARGV[1] .. ':' .. node
  found[#found + 1] = node
  found[#found + 1] = redis.call(ARGV[1] == 'node' and 'GET' or 'HGETALL', key)
end
return found
