-- What was kept after the n-th. ARGV: topic, n, ttl ms, partial ("1" or "").
-- Returns epoch (false for none), n, and the entries, the newest first.
local at, stream = P .. 'head:' .. ARGV[1], P .. 'history:' .. ARGV[1]
local epoch, n = unpack(redis.call('HMGET', at, 'epoch', 'n'))
if not epoch then return {false, 0, {}} end
n = tonumber(n or 0)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f', now - ARGV[3]))
local missed = n - ARGV[2]
local there = redis.call('XLEN', stream)
if missed <= 0 or (missed > there and ARGV[4] == '') then return {epoch, n, {}} end
return {epoch, n, redis.call('XREVRANGE', stream, '+', '-', 'COUNT', missed)}
