-- Read the generation of the store. Begin a new one if there is none, if the caller knows a newer one, or if it says that
-- the one that it knows lacks writes. KEYS: generation. ARGV: the generation that the caller knows ("" for none), a
-- seed, ms for which a generation is kept, "1" if the known one lacks writes, the rings that the caller knows. Returns the
-- generation, and the rings behind it: those of the caller if it knows more.
local known, ms, rings = ARGV[1], tonumber(ARGV[3]), ARGV[5]
local found, has = string.match(redis.call('GET', KEYS[1]) or '', '^([^/]*)(.*)$')
local function born(generation) return tonumber(string.match(generation, '^%d+') or 0) end
local function count(some) return select(2, string.gsub(some, '/', '/')) end
-- of two with as many either does: the slices compare them
if count(has) >= count(rings) then rings = has end
if found == '' or born(found) < born(known) or found == known and ARGV[4] == '1' then
  local t = redis.call('TIME')
  local us = math.max(t[1] * 1000000 + t[2], born(found) + 1, born(known) + 1)
  found = string.format('%.0f.%s', us, ARGV[2])
elseif rings == has then
  if redis.call('PTTL', KEYS[1]) < ms then redis.call('PEXPIRE', KEYS[1], ms) end
  return found .. rings
end
redis.call('SET', KEYS[1], found .. rings, 'PX', ms)
return found .. rings
