-- report(owner, state, error) -> {"ok"} or {"owner", who}
--
-- Records what the owner of a projection is doing, for `runner status`; anyone else's word is refused.
--
-- KEYS
--   1 projection  state, error, seen (µs), owner
--
-- ARGV
--   1 owner, 2 state, 3 error ("" = none)

local call = redis.call
local owner = call('HGET', KEYS[1], 'owner')
if owner ~= ARGV[1] then return {'owner', owner or ''} end
local now = call('TIME')
call('HSET', KEYS[1], 'state', ARGV[2], 'error', ARGV[3], 'seen', now[1] .. string.format('%06d', now[2]))
return {'ok'}
