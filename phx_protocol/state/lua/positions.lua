-- Where groups are. ARGV: expiry ms, groups... Returns epoch (false for none) and n of each.
local found = {}
for i = 2, #ARGV do
  local at = P .. 'position:' .. ARGV[i]
  local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
  if epoch then
    redis.call('PEXPIRE', at, ARGV[1])
    redis.call('PEXPIRE', P .. 'group:' .. ARGV[i], ARGV[1])
  end
  found[#found + 1] = {epoch, tonumber(n or 0)}
end
return found
