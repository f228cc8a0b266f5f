-- The beginning of every script. It sets P, the beginning of the names of all keys. KEYS: prefix.
-- ARGV, after those of the script: author, number of its writes that it knows to be done, the generation
-- that it knows ("" for none), a seed, ms for which a generation is kept, ms for which an author is kept,
-- "1" if the script writes.
-- A promoted replica or a restored snapshot may lack the latest writes. The numbers of positions would
-- then be used twice. So the store counts the writes of every author: if it has counted fewer than the
-- author knows of, or is in an older generation, it begins a new generation. That one is empty; the keys
-- of the old one expire.
local writes, author_ms, generation_ms = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
local seed, known, steps = table.remove(ARGV), table.remove(ARGV), tonumber(table.remove(ARGV))
local author = table.remove(ARGV)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at = KEYS[1] .. 'generation'
local G = redis.call('GET', at)
local function born(generation)
  return tonumber(string.match(generation or '', '^%d+') or 0)
end
local function renew()
  local us = math.max(t[1] * 1000000 + t[2], born(G) + 1, born(known) + 1)
  G = string.format('%.0f.%s', us, seed)
  redis.call('SET', at, G, 'PX', generation_ms)
end
local function counted()
  return tonumber(redis.call('GET', KEYS[1] .. G .. ':author:' .. author) or 0)
end
if not G or born(G) < born(known) or (G == known and steps > 0 and counted() < steps) then renew() end
local P = KEYS[1] .. G .. ':'
local step = 0
if writes == '1' then
  if redis.call('PTTL', at) < generation_ms / 2 then redis.call('PEXPIRE', at, generation_ms) end
  step = redis.call('INCR', P .. 'author:' .. author)
  redis.call('PEXPIRE', P .. 'author:' .. author, author_ms)
end
local function run()
