-- Forget what a node has, some at a time. ARGV, after those of names.lua: node, cursor, how many are looked at.
-- Returns the next cursor, "0" if it is done. While this goes on the node is in `leaving`: a call of the node that comes
-- late puts it into `holders` again, for the next to remove it.
local node, cursor = ARGV[3], ARGV[4]
if cursor == '0' then
  if redis.call('SREM', holders, node) == 1 then redis.call('SADD', leaving, node) end
  if redis.call('SISMEMBER', leaving, node) == 0 then return '0' end
end
local next, flat = unpack(redis.call('HSCAN', here, cursor, 'COUNT', ARGV[5]))
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
if next == '0' then redis.call('SREM', leaving, node) end
return next
