-- Keep claimed changes, and return of each whether it is still claimed (1 or 0). ARGV, after those of names.lua: ms for which nobody else gets them, then name, id, name, id...
local found = {}
for i = 4, #ARGV, 2 do
  local record = read(ARGV[i])
  local is_ours = is_of(record, ARGV[i + 1])
  if is_ours then redis.call('ZADD', due, now + ARGV[3], ARGV[i]) end
  found[#found + 1] = is_ours and 1 or 0
end
return found
