-- Drop what a node owns, some groups at a time. ARGV: node, or "" for any dead one;
-- groups at the most. Returns the node, or "" for none, and how many of its groups are left.
local node = ARGV[1]
if node == '' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  node = redis.call('ZRANGEBYSCORE', P .. 'nodes', '-inf', now, 'LIMIT', 0, 1)[1]
  if not node then return {'', 0} end
end
local groups = P .. 'groups:' .. node
for _, group in ipairs(redis.call('SPOP', groups, ARGV[2])) do
  local key, at, mine = P .. 'group:' .. group, P .. 'position:' .. group, node .. '\n'
  local all, dropped = redis.call('HGETALL', key), 0
  for i = 1, #all, 2 do
    if string.sub(all[i + 1], 1, #mine) == mine then
      dropped = dropped + redis.call('HDEL', key, all[i])
    end
  end
  if redis.call('EXISTS', at) == 1 then redis.call('HINCRBY', at, 'n', dropped) end
end
local left = redis.call('SCARD', groups)
if left == 0 then
  redis.call('ZREM', P .. 'nodes', node)
  redis.call('DEL', P .. 'node:' .. node, P .. 'topics:' .. node)
end
return {node, left}
