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
-- Drop broadcasts that are older than `ttl` ms, and the oldest ones while all have more than `most` bytes: all at once,
-- for they may be very many. The first one that stays is searched for; no number is missing between it and the last.
local function trim(at, stream, h, ttl, most)
  if h.old >= now - ttl and h.total - h.gone <= most then return end
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  h.old, h.gone = now, h.total
  local function stays(entry)
    local fields = entry[2]
    local old, gone = tonumber(fields[2]), fields[4] - fields[6]
    if old < now - ttl or h.total - gone > most then return false end
    h.old, h.gone = old, gone
    return true
  end
  if oldest and not stays(oldest) then
    local goes, first, step = tonumber(string.match(oldest[1], '^%d+')), h.n + 1, 1
    while first - goes > 1 do  -- most often one or two go
      local n = math.min(goes + step, math.floor((goes + first) / 2))
      if stays(redis.call('XRANGE', stream, string.format('%.0f-0', n), '+', 'COUNT', 1)[1]) then
        first = n
      else
        goes, step = n, step * 2
      end
    end
    redis.call('XTRIM', stream, 'MAXLEN', '=', h.n + 1 - first)
  end
  redis.call('HSET', at, 'old', string.format('%.0f', h.old), 'gone', string.format('%.0f', h.gone))
end
