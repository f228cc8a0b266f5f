-- Read the data of live nodes. ARGV: "node" or "topics". Returns node, its data, node, its data...
local found = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', P .. 'nodes', '(' .. now, '+inf')) do
  local key = P .. ARGV[1] .. ':' .. node
  found[#found + 1] = node
  found[#found + 1] = redis.call(ARGV[1] == 'node' and 'GET' or 'HGETALL', key)
end
return found
