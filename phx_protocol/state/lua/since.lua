-- Read a page of the broadcasts after the n-th. KEYS: head, stream. ARGV: n, ttl ms, partial ("1" or ""), most bytes
-- of all of them ("" for any), most bytes and entries of a page. Returns epoch (false for none), n, and the entries:
-- n, id, event, payload, sender of each. No entries if some of them are gone, or all have too many bytes.
local at, stream = unpack(KEYS)
local h = head(at)
if not h.epoch then return {false, 0, {}} end
trim(at, stream, h, tonumber(ARGV[2]), math.huge)
local nothing = {h.epoch, string.format('%.0f', h.n), {}}
local n, page, most = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[6])
if n >= h.n then return nothing end
-- one by one, unless all entries may be read at once
local count = h.total - h.gone <= page and most or 1
local found, bytes = {}, 0
repeat
  local entries = redis.call('XRANGE', stream, string.format('%.0f-0', n + 1), '+', 'COUNT', count)
  for _, entry in ipairs(entries) do
    local place, fields = tonumber(string.match(entry[1], '^%d+')), entry[2]
    if #found == 0 then
      if ARGV[3] == '' and place ~= n + 1 then return nothing end
      if ARGV[4] ~= '' and h.total - fields[4] + fields[6] > tonumber(ARGV[4]) then return nothing end
    end
    n, bytes = place, bytes + fields[6]
    found[#found + 1] = {string.format('%.0f', n), fields[8], fields[10], fields[12], fields[14]}
  end
until #entries < count or n >= h.n or bytes >= page or #found >= most
return {h.epoch, string.format('%.0f', h.n), found}
