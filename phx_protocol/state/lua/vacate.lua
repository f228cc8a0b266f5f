-- Forget what a node has, some at a time. ARGV, after those of names.lua: node, cursor, how many are looked at.
-- Returns the next cursor, "0" if it is done.
local node = ARGV[3]
local next, flat = unpack(redis.call('HSCAN', here, ARGV[4], 'COUNT', ARGV[5]))
for i = 1, #flat, 2 do
  local record = read(flat[i])
  local at = record and place(record, node)
  if at then
    table.remove(record.nodes, at)
    move(flat[i], record, true)
    note(flat[i], record)
  end
end
keep()
if next == '0' then redis.call('SREM', holders, node) end
return next
