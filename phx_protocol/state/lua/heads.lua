-- Read the positions of histories. KEYS: heads. ARGV: expiry ms of an empty one, then that of each. Returns epoch (false
-- for none) and n of each.
local found = {}
for i, at in ipairs(KEYS) do
  local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
  if epoch then redis.call('PEXPIRE', at, n and ARGV[i + 1] or ARGV[1]) end
  found[#found + 1] = epoch
  found[#found + 1] = tonumber(n or 0)
end
return found
