-- The presences of a group, in four keys. `entries`: ref -> owner, a newline, the entry. `at`: epoch, n, the number
-- of entries, and for each node with entries how many refs it has. `recent`: the refs of the latest steps, one a step.
-- `refs`: those of one node; a ref there whose entry has another owner means nothing.
-- A server that evicts keys may have dropped one of them: then the group counts as lost.
local KEPT, KEPT_MS = 5000, 60000
-- Returns epoch and n, or nothing if there is none or it is lost; the number of entries, and how many refs the node has.
local function position(at, entries, refs, node)
  local epoch, n, size, mine = unpack(redis.call('HMGET', at, 'epoch', 'n', 'size', 'of:' .. node))
  if not epoch then return end
  -- refs that the position does not know are of an earlier epoch
  if not mine then redis.call('UNLINK', refs) end
  local keys = (size == '0' and 0 or 1) + (mine and 1 or 0)
  if redis.call('EXISTS', entries, refs) ~= keys then return end
  return epoch, tonumber(n), tonumber(size), tonumber(mine or 0)
end
-- Note the numbers of entries and of the node's refs, and that the refs in `changed` were put or dropped. Returns n.
local function move(at, recent, node, epoch, n, size, mine, changed)
  n = n + #changed
  if mine > 0 then
    redis.call('HSET', at, 'epoch', epoch, 'n', n, 'size', size, 'of:' .. node, mine)
  else
    redis.call('HSET', at, 'epoch', epoch, 'n', n, 'size', size)
    redis.call('HDEL', at, 'of:' .. node)
  end
  if #changed > 0 then
    local kept = redis.call('RPUSH', recent, unpack(changed))
    if kept > 2 * KEPT then redis.call('LTRIM', recent, -KEPT, -1) end
    redis.call('PEXPIRE', recent, KEPT_MS)
  end
  return n
end
