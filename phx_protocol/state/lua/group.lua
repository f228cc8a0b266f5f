-- The presences of a group: `group:` has the entries, `position:` has its position and the number of
-- entries. A server that evicts keys one by one may have dropped one of the two: then the group counts as
-- lost.
local function position(group)
  local epoch, n, size = unpack(redis.call('HMGET', P .. 'position:' .. group, 'epoch', 'n', 'size'))
  if not epoch or redis.call('HLEN', P .. 'group:' .. group) ~= tonumber(size or 0) then return end
  return epoch, tonumber(n)
end
local function forget(group)
  redis.call('DEL', P .. 'group:' .. group, P .. 'position:' .. group)
end
-- Returns the number of entries.
local function move(group, epoch, n)
  local size = redis.call('HLEN', P .. 'group:' .. group)
  redis.call('HSET', P .. 'position:' .. group, 'epoch', epoch, 'n', n, 'size', size)
  return size
end
