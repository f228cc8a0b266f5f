-- Read what is known of names. ARGV, after those of names.lua: ms for which a name may be away, names... Returns
-- of each whether it is here (1 or 0), and when it was last (0 if that is not known).
local delay, found = tonumber(ARGV[3]), {}
for i = 4, #ARGV do
  local record = read(ARGV[i])
  local at = tonumber(redis.call('ZSCORE', seen, ARGV[i]) or 0)
  local is_here = record and #record.nodes > 0
  found[#found + 1] = (is_here or at > now - delay) and 1 or 0
  found[#found + 1] = is_here and now or at
end
return found
