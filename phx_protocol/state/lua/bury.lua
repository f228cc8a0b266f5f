-- Drop what a node has in some groups. KEYS: groups of the node, owners, then at, entries, recent, refs of each group.
-- ARGV: node, most entries to drop, ms for which an empty group is kept, groups... Returns how many of these groups are done.
local node, left, mine = ARGV[1], tonumber(ARGV[2]), ARGV[1] .. '\n'
for i = 4, #ARGV do
  local at, entries, recent, refs = unpack(KEYS, 4 * i - 13, 4 * i - 10)
  local epoch, n, size, has = position(at, entries, refs, node)
  if epoch then
    local some, gone = redis.call('SPOP', refs, left), {}
    if #some > 0 then
      for j, entry in ipairs(redis.call('HMGET', entries, unpack(some))) do
        if entry and string.sub(entry, 1, #mine) == mine then gone[#gone + 1] = some[j] end
      end
    end
    if #gone > 0 then redis.call('HDEL', entries, unpack(gone)) end
    size, has, left = size - #gone, has - #some, left - #some
    move(at, recent, node, epoch, n, size, has, gone)
    if size == 0 then redis.call('PEXPIRE', at, ARGV[3]) end
    if has > 0 then return i - 4 end
  else
    redis.call('UNLINK', at, entries, refs)
  end
  redis.call('SREM', KEYS[1], ARGV[i])
  if left == 0 then return i - 3 end
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], node) end
return #ARGV - 3
