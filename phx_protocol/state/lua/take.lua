-- Give a node the entry that waits longest, or one that it has already, as the answer to an earlier call may be lost.
-- KEYS: at, entries, recent, refs, groups of the node, owners.
-- ARGV: group, node, expiry ms, refs... Returns the ref of the entry, or false if none of them waits.
local at, entries, recent, refs, groups, owners = unpack(KEYS)
local group, node, expiry = ARGV[1], ARGV[2], ARGV[3]
local epoch, n, size, has = position(at, entries, refs, node)
if not epoch then return false end
local best, till, body
local mine = node .. '\n'
for i = 4, #ARGV do
  local entry = redis.call('HGET', entries, ARGV[i])
  if entry and string.sub(entry, 1, #mine) == mine then return ARGV[i] end
  local ms, rest = string.match(entry or '', '^~(%d+)\n(.*)$')
  if ms and tonumber(ms) > now and (not till or tonumber(ms) < till) then
    best, till, body = ARGV[i], tonumber(ms), rest
  end
end
if not best then return false end
redis.call('HSET', entries, best, node .. '\n' .. body)
local more = has + redis.call('SADD', refs, best)
move(at, recent, node, epoch, n, size, more, {})
redis.call('PEXPIRE', refs, expiry)
if has == 0 then
  redis.call('SADD', groups, group)
  redis.call('SADD', owners, node)
  for _, key in ipairs({groups, owners}) do
    if redis.call('PTTL', key) < tonumber(expiry) then redis.call('PEXPIRE', key, expiry) end
  end
end
return best
