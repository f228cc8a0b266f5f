-- Keep broadcasts. KEYS: a slot for the result, then head, stream of each. ARGV: the id of this call, then for each:
-- id, event, payload, sender ("" for none), its bytes, size, ttl ms, most bytes to keep, expiry ms, a new epoch, and
-- the source ("" for none) and number of its row. A broadcast with more bytes than that uses a position, but the history
-- is empty then. One with a row that the history has had is refused. Returns epoch and n for each, -n if it is refused.
local done, id = KEYS[1], ARGV[1]
-- each try looks: the first one may arrive last
local was = redis.call('GET', done)
if was and string.sub(was, 1, #id) == id then return cmsgpack.unpack(string.sub(was, #id + 1)) end
local found = {}
local function keep(i)
  local bytes, size, most = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]), tonumber(ARGV[i + 7])
  local at, stream = unpack(KEYS, (i - 2) / 6 + 2, (i - 2) / 6 + 3)
  local h = head(at)
  if ARGV[i + 10] ~= '' then
    local last, n = 'row:' .. ARGV[i + 10], ARGV[i + 11]
    if h.epoch and tonumber(redis.call('HGET', at, last) or 0) >= tonumber(n) then
      found[#found + 1] = h.epoch
      found[#found + 1] = string.format('-%.0f', h.n)
      return
    end
    redis.call('HSET', at, last, n)
  end
  if not h.epoch then
    h.epoch = ARGV[i + 9]
    redis.call('UNLINK', stream)
  end
  if not h.has_kept then h.old = now end
  h.n, h.ms, h.total = h.n + 1, math.max(h.ms, now), h.total + bytes
  local ms, total = string.format('%.0f', h.ms), string.format('%.0f', h.total)
  redis.call('HSET', at, 'epoch', h.epoch, 'n', string.format('%.0f', h.n), 'ms', ms, 'total', total,
    'old', string.format('%.0f', h.old), 'gone', string.format('%.0f', h.gone))
  if bytes > most then
    redis.call('UNLINK', stream)
  else
    redis.call('XADD', stream, 'MAXLEN', '=', size, string.format('%.0f-0', h.n), 'ms', ms, 'total', total,
      'bytes', bytes, 'id', ARGV[i], 'event', ARGV[i + 1], 'payload', ARGV[i + 2], 'sender', ARGV[i + 3])
  end
  trim(at, stream, h, tonumber(ARGV[i + 6]), most)
  redis.call('PEXPIRE', at, ARGV[i + 8])
  redis.call('PEXPIRE', stream, ARGV[i + 6])
  found[#found + 1] = h.epoch
  found[#found + 1] = string.format('%.0f', h.n)
end
for i = 2, #ARGV, 12 do keep(i) end
redis.call('SET', done, id .. cmsgpack.pack(found), 'PX', author_ms)
return found
