-- Keep a broadcast. ARGV: topic, id, event, payload, sender ("" for none), size, ttl ms,
-- expiry ms, a new epoch, again ("1" when it may be there already).
-- A stream entry is named <ms>-<n>: trimmed by its time, found by its number. Returns epoch and n.
local at, stream = P .. 'head:' .. ARGV[1], P .. 'history:' .. ARGV[1]
local epoch, n, last = unpack(redis.call('HMGET', at, 'epoch', 'n', 'ms'))
if not epoch then
  epoch, n = ARGV[9], 0
  redis.call('HSET', at, 'epoch', epoch)
  redis.call('DEL', stream)
end
if ARGV[10] == '1' then
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    if entry[2][2] == ARGV[2] then return {epoch, tonumber(string.match(entry[1], '%d+$'))} end
  end
end
n = (n or 0) + 1
local t = redis.call('TIME')
local ms = math.max(t[1] * 1000 + math.floor(t[2] / 1000), tonumber(last or 0))
local name = string.format('%.0f-%.0f', ms, n)
redis.call('HSET', at, 'n', n, 'ms', string.format('%.0f', ms))
redis.call('XADD', stream, 'MAXLEN', '=', ARGV[6], name,
  'id', ARGV[2], 'event', ARGV[3], 'payload', ARGV[4], 'sender', ARGV[5])
redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f', ms - ARGV[7]))
redis.call('PEXPIRE', at, ARGV[8])
redis.call('PEXPIRE', stream, ARGV[7])
return {epoch, n}
