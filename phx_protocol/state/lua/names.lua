-- The names of one kind that nodes have. KEYS: here, due, seen, holders. ARGV: ms for which all of this is kept, ms for
-- which `seen` is ("0" for never), then those of the script. `here`: name -> "1" if it was told that it is here, else
-- "0"; ms for which it may be away; when it came or left; "1" or "0" and an id while a node tells that it is here or
-- not, else "-"; then the nodes that have it. `due`: name -> when that is to be told, or told again. `seen`: name -> when it
-- left. `holders`: the nodes that may have names here.
local here, due, seen, holders = unpack(KEYS)
local function read(name)
  local words = {}
  for word in string.gmatch(redis.call('HGET', here, name) or '', '%S+') do words[#words + 1] = word end
  if #words == 0 then return end
  return {
    told = words[1] == '1', delay = tonumber(words[2]), since = tonumber(words[3]), claim = words[4],
    nodes = {unpack(words, 5)}
  }
end
