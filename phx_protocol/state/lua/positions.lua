-- Read the positions of groups. ARGV: expiry ms, ms for which an empty group is kept, groups... Returns epoch (false for
-- none) and n of each.
local found = {}
for i = 3, #ARGV do
  local epoch, n = position(ARGV[i])
  if epoch then
    if redis.call('PEXPIRE', P .. 'group:' .. ARGV[i], ARGV[1]) == 1 then
      redis.call('PEXPIRE', P .. 'position:' .. ARGV[i], ARGV[1])
    else
      redis.call('PEXPIRE', P .. 'position:' .. ARGV[i], ARGV[2])
    end
  else
    forget(ARGV[i])
  end
  found[#found + 1] = {epoch or false, n or 0}
end
return found
