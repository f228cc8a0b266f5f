-- Put entries of a node into a group and drop others. KEYS: at, entries, recent, refs, groups of the node, owners.
-- ARGV: group, node, a new epoch, expiry ms, ms for which an empty group is kept, whose entries are dropped ("any",
-- "mine"), number of drops, refs to drop..., then ref, entry, ref, entry... Returns epoch and n before (false, 0 for none), epoch and n after.
local at, entries, recent, refs, groups, owners = unpack(KEYS)
local group, node = ARGV[1], ARGV[2]
local before, first, all, had = position(at, entries, refs, node)
if not before then
  redis.call('UNLINK', at, entries, refs)
  first, all, had = 0, 0, 0
end
local mine, changed, put, last_drop = node .. '\n', {}, {}, 7 + ARGV[7]
local size, has = all, had
local function may_drop(ref)
  return ARGV[6] == 'any' or string.sub(redis.call('HGET', entries, ref) or '', 1, #mine) == mine
end
for i = 8, last_drop do
  if may_drop(ARGV[i]) and redis.call('HDEL', entries, ARGV[i]) == 1 then
    changed[#changed + 1] = ARGV[i]
    size = size - 1
  end
end
if last_drop > 7 then has = has - redis.call('SREM', refs, unpack(ARGV, 8, last_drop)) end
for i = last_drop + 1, #ARGV, 2 do
  put[#put + 1] = ARGV[i]
  if redis.call('HSET', entries, ARGV[i], mine .. ARGV[i + 1]) == 1 then
    changed[#changed + 1] = ARGV[i]
    size = size + 1
  end
end
if #put > 0 then has = has + redis.call('SADD', refs, unpack(put)) end
local epoch = before or ARGV[3]
local n = move(at, recent, node, epoch, first, size, has, changed)
-- else no key is new, and they have their expiry, which `positions` renews
if had == 0 or all == 0 or size == 0 or last_drop > 7 then
  local expiry = size == 0 and ARGV[5] or ARGV[4]
  for _, key in ipairs({at, entries, refs}) do redis.call('PEXPIRE', key, expiry) end
end
if has == 0 and had > 0 then
  redis.call('SREM', groups, group)
  if redis.call('EXISTS', groups) == 0 then redis.call('SREM', owners, node) end
elseif has > 0 and had == 0 then
  redis.call('SADD', groups, group)
  redis.call('SADD', owners, node)
  redis.call('PEXPIRE', groups, ARGV[4])
  redis.call('PEXPIRE', owners, ARGV[4])
end
return {before or false, first, epoch, n}
