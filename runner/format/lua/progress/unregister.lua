-- unregister(projection) -> {"ok"}
--
-- Forgets a projection: its views, checkpoints, parked events, records of skipped events, and its name. From then on it
-- holds no event of the log back. A commit of an earlier owner is refused, because no record has that owner.
--
-- KEYS
--   1 projection   build (the live one), previous, candidate
--   2 projections  the names of all projections
--   3 … the four keys of each build; the first of the four has its owner (owner, where) and the owner's lease
--
-- ARGV
--   1 projection name, 2 the live build, 3 the previous build, 4 the candidate ("" = none), 5 "1": only say whether it
--   would be forgotten
--
-- Replies
--   {"ok"}: the projection is forgotten, by this call or an earlier one, or would be
--   {"held", where}: a runner owns a build, and its lease has not ended; nothing was done
--   {"changed"}: the builds are not those that the caller names; nothing was done

local stored = call('HMGET', KEYS[1], 'build', 'previous', 'candidate')
local has_builds = stored[1] or stored[2] or stored[3]
if not has_builds and call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return {'ok'} end
for i = 1, 3 do
  if (stored[i] or '') ~= ARGV[1 + i] then return {'changed'} end
end
local now = server_time()
for i = 3, #KEYS, 4 do
  local holds = redis.pcall('HMGET', KEYS[i], 'owner', 'lease', 'where') -- a record that is none holds nothing
  if holds[1] and (tonumber(holds[2] or 0) or 0) > now then return {'held', holds[3] or ''} end
end
if ARGV[5] == '1' then return {'ok'} end
for i = 3, #KEYS do call('UNLINK', KEYS[i]) end
call('UNLINK', KEYS[1])
call('SREM', KEYS[2], ARGV[1])
return {'ok'}
