-- Claim changes that are due. ARGV, after those of names.lua: ms for which nobody else gets them, most of them, an id
-- that is new, names... Without names any are claimed, and what is too old is forgotten.
-- Returns whether there is anything (1 or 0), then name, id, whether it is here (1 or 0), and since when, of each.
local claim_ms, most, id, names = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], {unpack(ARGV, 6)}
if #names == 0 then
  if most > 0 then names = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most) end
  keep()
  local old = redis.call('ZRANGEBYSCORE', seen, '-inf', now - seen_ms, 'LIMIT', 0, 500)
  if #old > 0 then redis.call('ZREM', seen, unpack(old)) end
  -- nobody wants to tell these
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now - kept_ms, 'LIMIT', 0, 500)) do
    local record = read(name)
    if record then
      record.claim, record.told = '-', #record.nodes > 0
      note(name, record)
    end
  end
end
local found = {redis.call('EXISTS', here)}
for i, name in ipairs(names) do
  local at, record = redis.call('ZSCORE', due, name), read(name)
  if at and not record then
    redis.call('ZREM', due, name)
  elseif at and tonumber(at) <= now then
    if record.claim == '-' then
      -- `step`: the same call may run twice, and claim other names then
      local what = #record.nodes > 0 and '1' or '0'
      record.claim = string.format('%s%s.%d.%d:%.0f', what, id, step, i, record.since)
      note(name, record)
    end
    redis.call('ZADD', due, now + claim_ms, name)
    local what, its, since = claimed(record)
    found[#found + 1] = name
    found[#found + 1] = its
    found[#found + 1] = tonumber(what)
    found[#found + 1] = tonumber(since)
  end
end
return found
