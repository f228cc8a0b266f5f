-- The presences of a group, in four keys. `entries`: ref -> owner, a newline, the entry. `at`: epoch, n, the number
-- of entries, and for each node with entries how many refs it has. `recent`: the refs of the latest steps, one a step.
-- `refs`: those of one node; a ref there whose entry has another owner means nothing.
-- A server that evicts keys one by one may have dropped some of them: then the group counts as lost.
local KEPT, KEPT_MS = 5000, 60000
-- Returns epoch and n, or nothing; how many refs the node has, and the number of entries.
local function position(at, entries, refs, node)
  local epoch, n, size, mine = unpack(redis.call('HMGET', at, 'epoch', 'n', 'size', 'of:' .. node))
  if not epoch or redis.call('HLEN', entries) ~= tonumber(size) then return end
  if mine and redis.call('SCARD', refs) ~= tonumber(mine) then return end
  -- refs that the position does not know are of an earlier epoch
  if not mine then redis.call('UNLINK', refs) end
  return epoch, tonumber(n), tonumber(mine or 0), tonumber(size)
end
-- Note that the refs in `changed` were put or dropped. Returns n, the number of entries, and that of the node's refs.
local function move(at, entries, recent, refs, node, epoch, n, changed)
  n = n + #changed
  local size, mine = redis.call('HLEN', entries), redis.call('SCARD', refs)
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
  return n, size, mine
end
