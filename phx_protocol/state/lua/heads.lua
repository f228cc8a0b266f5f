-- Read the positions of histories. ARGV: expiry ms of an empty one, topic, expiry ms, topic... Returns epoch
-- (false for none) and n of each.
local found = {}
for i = 2, #ARGV, 2 do
  local at = P .. 'head:' .. ARGV[i]
  local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
  if epoch then redis.call('PEXPIRE', at, n and ARGV[i + 1] or ARGV[1]) end
  found[#found + 1] = {epoch, tonumber(n or 0)}
end
return found
