-- Around every script, before it: P, what the names of its keys begin with. KEYS: prefix.
-- ARGV, after those of the script: author, steps that it knows to be done, the generation that it knows
-- ("" for none), a seed, ms for which a generation is known, ms for which an author is, "1" for a writer.
-- A replica that was promoted or a snapshot that was restored may lack the latest steps, and then the
-- numbers of positions would be used twice. So every author has its writes counted: when the store has
-- counted fewer than the author was told of, or is in an older generation, a new generation begins. There
-- is nothing yet in it; what there was expires.
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
