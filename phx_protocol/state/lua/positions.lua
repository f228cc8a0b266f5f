-- Where groups are. KEYS: prefix. ARGV: expiry ms, groups... Returns epoch (false for none) and n of each.
local found = {}
for i = 2, #ARGV do
  local at = KEYS[1] .. 'position:' .. ARGV[i]
  local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
  if epoch then
    redis.call('PEXPIRE', at, ARGV[1])
    redis.call('PEXPIRE', KEYS[1] .. 'group:' .. ARGV[i], ARGV[1])
  end
  found[#found + 1] = {epoch, tonumber(n or 0)}
end
return found
