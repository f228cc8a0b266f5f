-- Read the positions of groups, and keep them and what a node has in them from expiring. KEYS: groups of the node,
-- owners, then at, entries, refs of each group. ARGV: node, expiry ms, ms for which an empty group is kept, groups...
-- Returns epoch (false for none) and n of each.
local node, expiry, found, owned = ARGV[1], ARGV[2], {}, {}
local call, of_node, k = redis.call, 'of:' .. node, 3
for i = 4, #ARGV do
  local at, entries, refs = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  k = k + 3
  local is = call('HMGET', at, 'epoch', 'n', 'size', of_node)
  local epoch, n, is_empty, mine = is[1], is[2], is[3] == '0', is[4]
  -- as in group.lua: if one of the keys is missing, the group is lost
  if epoch and (call('PEXPIRE', entries, expiry) == 0) == is_empty and not (mine and call('PEXPIRE', refs, expiry) == 0) then
    call('PEXPIRE', at, is_empty and ARGV[3] or expiry)
    if mine then owned[#owned + 1] = ARGV[i] end
  else
    call('UNLINK', at, entries, refs)
    epoch, n = false, 0
  end
  found[2 * i - 7], found[2 * i - 6] = epoch, tonumber(n)
end
if #owned > 0 then
  -- again, as they may have been evicted
  redis.call('SADD', KEYS[1], unpack(owned))
  redis.call('SADD', KEYS[2], node)
  redis.call('PEXPIRE', KEYS[1], expiry)
  redis.call('PEXPIRE', KEYS[2], expiry)
end
return found
