-- Drop what a node owns, some groups at a time. ARGV: node, or "" for any dead one;
-- most groups to handle, ms for which an empty group is kept. Returns the node, or "" for none, and how many
-- of its groups are left.
local node = ARGV[1]
if node == '' then
  node = redis.call('ZRANGEBYSCORE', P .. 'nodes', '-inf', now, 'LIMIT', 0, 1)[1]
  if not node then return {'', 0} end
end
local groups = P .. 'groups:' .. node
for _, group in ipairs(redis.call('SPOP', groups, ARGV[2])) do
  local epoch, n = position(group)
  if epoch then
    local key, mine = P .. 'group:' .. group, node .. '\n'
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      if string.sub(all[i + 1], 1, #mine) == mine then n = n + redis.call('HDEL', key, all[i]) end
    end
    if move(group, epoch, n) == 0 then redis.call('PEXPIRE', P .. 'position:' .. group, ARGV[3]) end
  else
    forget(group)
  end
end
local left = redis.call('SCARD', groups)
if left == 0 then
  redis.call('ZREM', P .. 'nodes', node)
  redis.call('DEL', P .. 'node:' .. node, P .. 'topics:' .. node)
end
return {node, left}
