-- The broadcasts of a topic: a stream, whose entries are named <n>-0 and have the fields ms, total (bytes of
-- all that were ever kept, this one included), bytes, id, event, payload, sender. The head has its position and more:
-- epoch, n, ms (of the last), total, and bounds of the oldest one: it is not older than `old`, and begins at
-- `gone` of `total` or later. The exact values are read only when these bounds are not enough.
local function head(at)
  local epoch, n, ms, total, old, gone =
    unpack(redis.call('HMGET', at, 'epoch', 'n', 'ms', 'total', 'old', 'gone'))
  return {
    epoch = epoch, n = tonumber(n or 0), ms = tonumber(ms or 0), total = tonumber(total or 0),
    old = tonumber(old or 0), gone = tonumber(gone or 0), has_kept = n and true
  }
end
-- Drop broadcasts that are older than `ttl` ms, and the oldest ones while all have more than `most` bytes.
local function trim(at, stream, h, ttl, most)
  local moved = false
  while h.old < now - ttl or h.total - h.gone > most do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    moved = true
    if not oldest then
      h.old, h.gone = now, h.total
      break
    end
    local fields = oldest[2]
    h.old, h.gone = tonumber(fields[2]), fields[4] - fields[6]
    if h.old >= now - ttl and h.total - h.gone <= most then break end
    redis.call('XDEL', stream, oldest[1])
  end
  if moved then
    redis.call('HSET', at, 'old', string.format('%.0f', h.old), 'gone', string.format('%.0f', h.gone))
  end
end
