-- Read the generation of the store. Begin a new one if there is none, if the caller knows a newer one, or if it says that
-- the one that it knows lacks writes. KEYS: generation. ARGV: the generation that the caller knows ("" for none), a
-- seed, ms for which a generation is kept, "1" if the known one lacks writes.
local known, ms = ARGV[1], tonumber(ARGV[3])
local found = redis.call('GET', KEYS[1])
local function born(generation) return tonumber(string.match(generation or '', '^%d+') or 0) end
if found and born(found) >= born(known) and not (found == known and ARGV[4] == '1') then
  if redis.call('PTTL', KEYS[1]) < ms then redis.call('PEXPIRE', KEYS[1], ms) end
  return found
end
local t = redis.call('TIME')
local us = math.max(t[1] * 1000000 + t[2], born(found) + 1, born(known) + 1)
found = string.format('%.0f.%s', us, ARGV[2])
redis.call('SET', KEYS[1], found, 'PX', ms)
return found
