-- claim(owner) -> {"ok", position, id, build} or {"owner", who}
--
-- Makes the caller the one that may commit to a projection; the owner before is fenced off from then on.
--
-- KEYS
--   1 projection   checkpoint (position, id), owner, token, build
--   2 projections  the names of all projections
--
-- ARGV
--   1 owner, a random id; 2 projection name; 3 the build to begin with, where there is none;
--   4 the owner that must hold it now (or the caller already, when this is sent again), "" = anyone

local call = redis.call
local projection = KEYS[1]
local holder = call('HGET', projection, 'owner') or ''
if ARGV[4] ~= '' and holder ~= ARGV[4] and holder ~= ARGV[1] then return {'owner', holder} end
call('SADD', KEYS[2], ARGV[2])
call('HSETNX', projection, 'build', ARGV[3])
call('HINCRBY', projection, 'token', 1)
call('HSET', projection, 'owner', ARGV[1])
local stored = call('HMGET', projection, 'position', 'id', 'build')
return {'ok', stored[1] or '0', stored[2] or '', stored[3]}
