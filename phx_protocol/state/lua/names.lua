-- The names of one kind that nodes have. KEYS: here, due, seen, holders, leaving. ARGV: ms for which all of this is kept,
-- ms for which `seen` is, then those of the script. `here`: name -> "1" if it was told that it is here, else "0"; ms for
-- which it may be away; when it came or left; what a node tells now, else "-"; then the nodes that have it. What is told:
-- "1" or "0", an id, a colon, and when that happened. `due`: name -> when its change is to be told, or told again.
-- `seen`: name -> when it left. `holders`: the nodes that may have names here, `leaving`: those that are being removed.
local here, due, seen, holders, leaving = unpack(KEYS)
local function read(name)
  local words = {}
  for word in string.gmatch(redis.call('HGET', here, name) or '', '%S+') do words[#words + 1] = word end
  if #words == 0 then return end
  return {
    told = words[1] == '1', delay = tonumber(words[2]), since = tonumber(words[3]), claim = words[4],
    nodes = {unpack(words, 5)}
  }
end
