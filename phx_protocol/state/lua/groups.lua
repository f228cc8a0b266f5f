-- List some groups in which a node has entries. KEYS: groups of the node, owners. ARGV: node, most groups.
local found = redis.call('SRANDMEMBER', KEYS[1], ARGV[2])
if #found == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return found
