-- Note that claimed changes were told. ARGV, after those of names.lua: name, id, name, id... Returns of each the
-- ms until its next change is due, or -1.
local found = {}
for i = 3, #ARGV, 2 do
  local name, record = ARGV[i], read(ARGV[i])
  local wait = -1
  if is_of(record, ARGV[i + 1]) then
    record.told = claimed(record) == '1'
    record.claim = '-'
    wait = note(name, record)
  end
  found[#found + 1] = wait
end
return found
