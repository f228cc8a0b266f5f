-- Keep broadcasts. ARGV: a slot, the id of this call, again ("1" if it may already be done), then for each:
-- topic, id, event, payload, sender ("" for none), its bytes, size, ttl ms, most bytes to keep, expiry ms,
-- a new epoch. A broadcast with more bytes than that uses a position, but the history is empty then.
-- Returns epoch and n for each.
local done = P .. 'done:' .. ARGV[1]
if ARGV[3] == '1' then
  local was = redis.call('GET', done)
  if was then
    was = cmsgpack.unpack(was)
    if was[1] == ARGV[2] then return was[2] end
  end
end
local found = {}
for i = 4, #ARGV, 11 do
  local topic, bytes, size, most = ARGV[i], tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6]), tonumber(ARGV[i + 8])
  local at, stream, h = P .. 'head:' .. topic, P .. 'history:' .. topic, head(ARGV[i])
  if not h.epoch then
    h.epoch = ARGV[i + 10]
    redis.call('DEL', stream)
  end
  if not h.has_kept then h.old = now end
  h.n, h.ms, h.total = h.n + 1, math.max(h.ms, now), h.total + bytes
  local ms, total = string.format('%.0f', h.ms), string.format('%.0f', h.total)
  redis.call('HSET', at, 'epoch', h.epoch, 'n', string.format('%.0f', h.n), 'ms', ms, 'total', total,
    'old', string.format('%.0f', h.old), 'gone', string.format('%.0f', h.gone))
  if bytes > most then
    redis.call('DEL', stream)
  else
    redis.call('XADD', stream, 'MAXLEN', '=', size, string.format('%.0f-0', h.n), 'ms', ms, 'total', total,
      'bytes', bytes, 'id', ARGV[i + 1], 'event', ARGV[i + 2], 'payload', ARGV[i + 3], 'sender', ARGV[i + 4])
  end
  trim(topic, h, tonumber(ARGV[i + 7]), most)
  redis.call('PEXPIRE', at, ARGV[i + 9])
  redis.call('PEXPIRE', stream, ARGV[i + 7])
  found[#found + 1] = h.epoch
  found[#found + 1] = string.format('%.0f', h.n)
end
redis.call('SET', done, cmsgpack.pack({ARGV[2], found}), 'PX', author_ms)
return found
