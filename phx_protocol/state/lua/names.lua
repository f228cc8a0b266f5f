-- Before every script: P, what the names of its keys begin with. KEYS: prefix.
-- A server that was restarted from a snapshot, or a replica that became the primary, may have lost the
-- latest steps. It has another run_id, under which there is nothing yet: what was there expires.
local P = KEYS[1] .. string.match(redis.call('INFO', 'server'), 'run_id:(%x%x%x%x%x%x%x%x)') .. ':'
