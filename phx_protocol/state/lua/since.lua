-- Read a page of the broadcasts after the n-th. KEYS: head, stream. ARGV: n, ttl ms, partial ("1" or ""), most bytes
-- of all of them ("" for any), most bytes and entries of a page. Returns epoch (false for none), n, and the entries:
-- n, ms, id, event, payload, sender of each. No entries if some of them are gone, or all have too many bytes.
local at, stream = unpack(KEYS)
local h = head(at)
if not h.epoch then return {false, 0, {}} end
trim(at, stream, h, tonumber(ARGV[2]), math.huge)
local nothing = {h.epoch, string.format('%.0f', h.n), {}}
local n, page, most = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
if n >= h.n then return nothing end
local function read(from, count)
  return redis.call('XRANGE', stream, string.format('%.0f-0', from), '+', 'COUNT', count)
end
local first = read(n + 1, 1)[1]
if not first then return nothing end
local from, before = tonumber(string.match(first[1], '^%d+')), first[2][4] - first[2][6]
if ARGV[3] == '' and from ~= n + 1 then return nothing end
if ARGV[4] ~= '' and h.total - before > tonumber(ARGV[4]) then return nothing end
-- the last one of the page is searched for; no number is missing after the first one
local to, last = from, math.min(h.n, from + most - 1)
if h.total - before < page then to = last end
while to < last do
  local middle = math.floor((to + last) / 2)
  if read(middle, 1)[1][2][4] - before >= page then last = middle else to = middle + 1 end
end
local found = {}
for i, entry in ipairs(read(from, to - from + 1)) do
  local fields = entry[2]
  found[i] = {string.format('%.0f', from + i - 1), fields[2], fields[8], fields[10], fields[12], fields[14]}
end
return {h.epoch, string.format('%.0f', h.n), found}
