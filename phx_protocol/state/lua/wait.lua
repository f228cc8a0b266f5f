-- Let entries of a node wait for the return of their client: they belong to "~<ms>" from now on, as if to a node that
-- is dead then. KEYS: at, entries, recent, refs, groups of the node, refs and groups of "~<ms>", owners.
-- ARGV: group, node, "~<ms>", a new epoch, expiry ms, "1" to put entries that the group lacks, then ref, entry, ref,
-- entry... An entry of another owner was taken by its client, and stays there.
-- Returns as change.lua does.
local at, entries, recent, refs, groups, waiting, waiting_groups, owners = unpack(KEYS)
local group, node, waits, expiry = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local before, first, size, has = position(at, entries, refs, node)
local _, _, _, had = position(at, entries, waiting, waits)
if not before or not had then
  redis.call('UNLINK', at, entries, refs, waiting)
  before, first, size, has, had = nil, 0, 0, 0, 0
end
local mine, changed, left, more = node .. '\n', {}, has, had
for i = 7, #ARGV, 2 do
  local ref, known = ARGV[i], redis.call('HGET', entries, ARGV[i])
  if known and string.sub(known, 1, #mine) == mine or not known and ARGV[6] == '1' then
    redis.call('HSET', entries, ref, waits .. '\n' .. ARGV[i + 1])
    left = left - redis.call('SREM', refs, ref)
    more = more + redis.call('SADD', waiting, ref)
    if not known then
      changed[#changed + 1] = ref
      size = size + 1
    end
  end
end
local epoch = before or ARGV[4]
local n = move(at, recent, node, epoch, first, size, left, changed)
move(at, recent, waits, epoch, n, size, more, {})
for _, key in ipairs({at, entries, waiting}) do
  if redis.call('PTTL', key) < tonumber(expiry) then redis.call('PEXPIRE', key, expiry) end
end
if left == 0 and has > 0 then
  redis.call('SREM', groups, group)
  if redis.call('EXISTS', groups) == 0 then redis.call('SREM', owners, node) end
end
if more > 0 and had == 0 then
  redis.call('SADD', waiting_groups, group)
  redis.call('SADD', owners, waits)
end
for _, key in ipairs({waiting_groups, owners}) do
  if redis.call('PTTL', key) < tonumber(expiry) then redis.call('PEXPIRE', key, expiry) end
end
return {before or false, first, epoch, n}
