-- What the scripts that change names share.
local kept_ms, seen_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local function place(record, node)
  for i, name in ipairs(record.nodes) do
    if name == node then return i end
  end
end
-- Note that a name has come, or left.
local function move(name, record, was_here)
  if was_here == (#record.nodes > 0) then return end
  record.since = now
  if was_here then
    redis.call('ZADD', seen, now, name)
    redis.call('PEXPIRE', seen, seen_ms)
  end
end
-- Keep a record, or forget it if it says nothing. Returns the ms until it is due, or -1.
local function note(name, record)
  local is_here, wait = #record.nodes > 0, -1
  if record.claim == '-' then
    if is_here == record.told then
      redis.call('ZREM', due, name)
    else
      local at = record.since + (is_here and 0 or record.delay)
      redis.call('ZADD', due, at, name)
      wait = math.max(0, at - now)
    end
    if not is_here and not record.told then
      redis.call('HDEL', here, name)
      return wait
    end
  end
  local first = string.format('%s %.0f %.0f %s', record.told and '1' or '0', record.delay, record.since, record.claim)
  redis.call('HSET', here, name, first .. ' ' .. table.concat(record.nodes, ' '))
  return wait
end
-- Returns the id and the rest of what a node tells now.
local function claimed(record) return string.match(record.claim, '^([01])(.*):(%d+)$') end
local function is_of(record, id)
  if not record or record.claim == '-' then return false end
  local _, its = claimed(record)
  return its == id
end
local function keep()
  for _, key in ipairs({here, due, holders, leaving}) do redis.call('PEXPIRE', key, kept_ms) end
end
