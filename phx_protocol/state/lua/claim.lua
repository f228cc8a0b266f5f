-- Claim changes that are due. ARGV, after those of names.lua: ms for which nobody else gets them, most of them, an
-- id that is new, names... Without names any are claimed, and what is too old is forgotten.
-- Returns whether there is anything (1 or 0), then name, id, whether it is here (1 or 0), and since when, of each.
local claim_ms, most, id, names = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], {unpack(ARGV, 6)}
if #names == 0 then
  if most > 0 then names = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most) end
  keep()
  if seen_ms > 0 then
    local old = redis.call('ZRANGEBYSCORE', seen, '-inf', now - seen_ms, 'LIMIT', 0, 500)
    if #old > 0 then redis.call('ZREM', seen, unpack(old)) end
  end
end
local found = {redis.call('EXISTS', here)}
for i, name in ipairs(names) do
  local at, record = redis.call('ZSCORE', due, name), read(name)
  if at and not record then
    redis.call('ZREM', due, name)
  elseif at and tonumber(at) <= now then
    if record.claim == '-' then record.claim = (#record.nodes > 0 and '1' or '0') .. id .. '.' .. i end
    note(name, record)
    redis.call('ZADD', due, now + claim_ms, name)
    found[#found + 1] = name
    found[#found + 1] = string.sub(record.claim, 2)
    found[#found + 1] = tonumber(string.sub(record.claim, 1, 1))
    found[#found + 1] = record.since
  end
end
return found
