-- Put entries of a node into a group and drop others. ARGV: group, node, a new epoch,
-- expiry ms, ms for which an empty group is kept, how: "change", "last" (the node has nothing in the group
-- afterwards) or "replace" (all entries of the node that are not put are dropped), number of drops, refs to
-- drop..., then ref, entry, ref, entry...
-- Returns epoch and n before (false, 0 for none), epoch and n after.
local group, node = ARGV[1], ARGV[2]
local key, mine, groups = P .. 'group:' .. group, node .. '\n', P .. 'groups:' .. node
local before, n = position(group)
if not before then
  forget(group)
  n = 0
end
local epoch, first = before or ARGV[3], n
local first_put = 8 + ARGV[7]
if ARGV[6] == 'replace' then
  local kept = {}
  for i = first_put, #ARGV, 2 do kept[ARGV[i]] = true end
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.sub(all[i + 1], 1, #mine) == mine and not kept[all[i]] then
      n = n + redis.call('HDEL', key, all[i])
    end
  end
end
for i = 8, first_put - 1 do n = n + redis.call('HDEL', key, ARGV[i]) end
for i = first_put, #ARGV, 2 do n = n + redis.call('HSET', key, ARGV[i], mine .. ARGV[i + 1]) end
local expiry = move(group, epoch, n) == 0 and ARGV[5] or ARGV[4]
redis.call('PEXPIRE', P .. 'position:' .. group, expiry)
redis.call('PEXPIRE', key, expiry)
if first_put > #ARGV and ARGV[6] ~= 'change' then
  redis.call('SREM', groups, group)
else
  redis.call('SADD', groups, group)
end
if not redis.call('ZSCORE', P .. 'nodes', node) then
  redis.call('ZADD', P .. 'nodes', 0, node)  -- a node that never beat, or is dead: it is reaped soon
end
redis.call('PEXPIRE', groups, ARGV[4])
redis.call('PEXPIRE', P .. 'nodes', ARGV[4])
return {before or false, first, epoch, n}
