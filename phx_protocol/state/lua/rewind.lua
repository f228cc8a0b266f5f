-- Find the newest broadcasts up to the n-th. KEYS: head, stream. ARGV: n, ttl ms, how many at most, how many ms old they
-- are at most, and how many bytes they have together at most; "" for any. Returns epoch (false for none), n of the topic,
-- and the number before the first one: `n` if there are none.
local at, stream = unpack(KEYS)
local h = head(at)
if not h.epoch then return {false, 0, ARGV[1]} end
trim(at, stream, h, tonumber(ARGV[2]), math.huge)
local n, count = tonumber(ARGV[1]), tonumber(ARGV[3]) or math.huge
local since = now - (tonumber(ARGV[4]) or math.huge)
local function found(from)
  local entry = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
  if not entry then return end
  local fields = entry[2]
  return tonumber(string.match(entry[1], '^%d+')), tonumber(fields[2]), tonumber(fields[4]), fields[4] - fields[6]
end
local function entry(i)
  return found(string.format('%.0f-0', i))
end
local last, _, total = entry(n)
local first = n + 1
if last == n then
  -- no number is missing after the oldest one, and the later ones are newer and have fewer bytes together
  local from = math.max(found('-'), n + 1 - count)
  while from < first do
    local middle = math.floor((from + first) / 2)
    local _, ms, _, before = entry(middle)
    if ms >= since and total - before <= tonumber(ARGV[5]) then first = middle else from = middle + 1 end
  end
end
return {h.epoch, string.format('%.0f', h.n), string.format('%.0f', first - 1)}
