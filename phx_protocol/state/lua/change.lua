-- Put entries of a node into a group and drop others. ARGV: group, node, a new epoch,
-- expiry ms, how: "change" or "replace" (then all that the node has and is not put is dropped),
-- number of drops, refs to drop..., then ref, entry, ref, entry...
-- Returns epoch and n before (false, 0 for none), epoch and n after.
local group, node = ARGV[1], ARGV[2]
local key, at, mine = P .. 'group:' .. group, P .. 'position:' .. group, node .. '\n'
local before, n = redis.call('HGET', at, 'epoch'), tonumber(redis.call('HGET', at, 'n') or 0)
local epoch, first = before, n
if not epoch then
  epoch = ARGV[3]
  redis.call('HSET', at, 'epoch', epoch)
end
local first_put = 7 + ARGV[6]
if ARGV[5] == 'replace' then
  local kept = {}
  for i = first_put, #ARGV, 2 do kept[ARGV[i]] = true end
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.sub(all[i + 1], 1, #mine) == mine and not kept[all[i]] then
      n = n + redis.call('HDEL', key, all[i])
    end
  end
end
for i = 7, first_put - 1 do n = n + redis.call('HDEL', key, ARGV[i]) end
for i = first_put, #ARGV, 2 do n = n + redis.call('HSET', key, ARGV[i], mine .. ARGV[i + 1]) end
redis.call('HSET', at, 'n', n)
redis.call('SADD', P .. 'groups:' .. node, group)
if not redis.call('ZSCORE', P .. 'nodes', node) then
  redis.call('ZADD', P .. 'nodes', 0, node)  -- it never beat, or is dead: it is soon reaped
end
for _, name in ipairs({key, at, P .. 'groups:' .. node, P .. 'nodes'}) do
  redis.call('PEXPIRE', name, ARGV[4])
end
return {before, first, epoch, n}
