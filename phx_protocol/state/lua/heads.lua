-- Where histories are. KEYS: prefix. ARGV: topics... Returns epoch (false for none) and n of each.
local found = {}
for i = 1, #ARGV do
  local epoch, n = unpack(redis.call('HMGET', KEYS[1] .. 'head:' .. ARGV[i], 'epoch', 'n'))
  found[i] = {epoch, tonumber(n or 0)}
end
return found
