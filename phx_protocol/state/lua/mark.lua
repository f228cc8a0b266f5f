-- Note which names a node has. ARGV, after those of names.lua: node, ms for which a name may be away, then name,
-- two digits: is it here, and was that told; name, ... That it was told counts if the store has lost the name: one that has
-- left is in `seen`. Returns of each the ms until it is due, or -1.
local node, delay, found, is_holder = ARGV[3], tonumber(ARGV[4]), {}, false
for i = 5, #ARGV, 2 do
  local name, is_here, was_told = ARGV[i], string.sub(ARGV[i + 1], 1, 1) == '1', string.sub(ARGV[i + 1], 2) == '1'
  local known = read(name)
  was_told = was_told and not redis.call('ZSCORE', seen, name)
  local record = known or {told = was_told, since = now, claim = '-', nodes = {}}
  record.delay = delay
  local was_here = #record.nodes > 0 or not known and was_told and not is_here
  local at = place(record, node)
  if is_here then
    if not at then table.insert(record.nodes, node) end
    is_holder = true
  elseif at then
    table.remove(record.nodes, at)
  end
  move(name, record, was_here)
  found[#found + 1] = note(name, record)
end
if is_holder then redis.call('SADD', holders, node) end
keep()
return found
