-- Read the positions of groups, and keep them and what a node has in them from expiring. KEYS: groups of the node,
-- owners, then at, entries, refs of each group. ARGV: node, expiry ms, ms for which an empty group is kept, groups...
-- Returns epoch (false for none) and n of each.
local node, expiry, found, owned = ARGV[1], ARGV[2], {}, {}
local function renewed(key) return redis.call('PEXPIRE', key, expiry) == 1 end
for i = 4, #ARGV do
  local at, entries, refs = unpack(KEYS, 3 * i - 9, 3 * i - 7)
  local epoch, n, size, mine = unpack(redis.call('HMGET', at, 'epoch', 'n', 'size', 'of:' .. node))
  -- as in group.lua: if one of the keys is missing, the group is lost
  if epoch and renewed(entries) == (size ~= '0') and (not mine or renewed(refs)) then
    redis.call('PEXPIRE', at, size == '0' and ARGV[3] or expiry)
    if mine then owned[#owned + 1] = ARGV[i] end
  else
    redis.call('UNLINK', at, entries, refs)
    epoch, n = false, 0
  end
  found[#found + 1] = epoch
  found[#found + 1] = tonumber(n)
end
if #owned > 0 then
  -- again, as they may have been evicted
  redis.call('SADD', KEYS[1], unpack(owned))
  redis.call('SADD', KEYS[2], node)
  redis.call('PEXPIRE', KEYS[1], expiry)
  redis.call('PEXPIRE', KEYS[2], expiry)
end
return found
