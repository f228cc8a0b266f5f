-- The beginning of every script. All keys of a call are under one hash tag, and named after the generation of the
-- store that the caller knows. After the KEYS of the script: the generation of this tag, the count of the author.
-- ARGV, after those of the script: the generation that the caller knows, the number of its writes that it knows to be
-- done, ms for which a generation is kept, ms for which an author is kept, "1" if this call is counted.
-- A promoted replica or a restored snapshot may lack the latest writes. The numbers of positions would then be used
-- twice. So the writes of every author are counted: if fewer are found than the author knows of, nothing is done, and
-- the caller begins a new generation (generation.lua). That one is empty; the keys of the old one expire.
-- Returns the count of the author (0 if it is not counted) and the answer; or, if nothing was done,
-- MOVED and what this tag has, or LOST.
-- Behind the generation are the rings (rings.py), if the servers have ever changed: with fewer than this tag knows
-- nothing is done, with more the tag learns them.
local MOVED, LOST = -1, -2
local is_counted = table.remove(ARGV) == '1'
local author_ms, generation_ms = table.remove(ARGV), tonumber(table.remove(ARGV))
local steps, known = tonumber(table.remove(ARGV)), table.remove(ARGV)
local author, at = table.remove(KEYS), table.remove(KEYS)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = redis.call('GET', at)
if found and found ~= known then
  local function parts(value)
    local generation, rings = string.match(value, '^([^/]*)(.*)$')
    local _, count = string.gsub(rings, '/', '/')
    return generation, tonumber(string.match(generation, '^%d+')), rings, count
  end
  local generation, born, rings, count = parts(known)
  local its, its_born, has_rings, has_count = parts(found)
  local function is_after(a, b)  -- `>` goes by the locale of the server
    for i = 1, math.min(#a, #b) do
      if string.byte(a, i) ~= string.byte(b, i) then return string.byte(a, i) > string.byte(b, i) end
    end
    return #a > #b
  end
  local has_more = has_count > count or has_count == count and is_after(has_rings, rings)
  if its ~= generation and its_born >= born or has_more then return {MOVED, found} end
end
if found ~= known then redis.call('SET', at, known, 'PX', generation_ms) end
local step = tonumber(redis.call('GET', author) or 0)
if step < steps then return {LOST} end
if is_counted then
  if redis.call('PTTL', at) < generation_ms / 2 then redis.call('PEXPIRE', at, generation_ms) end
  step = step + 1
  redis.call('SET', author, step, 'PX', author_ms)
else
  step = 0
end
local function run()
