-- Read the positions of groups, and keep them and what a node has in them from expiring. KEYS: groups of the node,
-- owners, then at, entries, refs of each group. ARGV: node, expiry ms, ms for which an empty group is kept, groups...
-- Returns epoch (false for none) and n of each.
local node, expiry, found, owned = ARGV[1], ARGV[2], {}, {}
for i = 4, #ARGV do
  local at, entries, refs = unpack(KEYS, 3 * i - 9, 3 * i - 7)
  local epoch, n, mine = position(at, entries, refs, node)
  if epoch then
    redis.call('PEXPIRE', at, redis.call('PEXPIRE', entries, expiry) == 1 and expiry or ARGV[3])
    if mine > 0 then
      redis.call('PEXPIRE', refs, expiry)
      owned[#owned + 1] = ARGV[i]
    end
  else
    redis.call('UNLINK', at, entries, refs)
  end
  found[#found + 1] = epoch or false
  found[#found + 1] = n or 0
end
if #owned > 0 then
  -- again, as they may have been evicted
  redis.call('SADD', KEYS[1], unpack(owned))
  redis.call('SADD', KEYS[2], node)
  redis.call('PEXPIRE', KEYS[1], expiry)
  redis.call('PEXPIRE', KEYS[2], expiry)
end
return found
