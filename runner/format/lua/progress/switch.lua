-- switch(candidate) -> {"ok"}
--
-- Makes the candidate the live build, in one step, unless it lags the present live build. The present live build
-- becomes the previous one, for `rollback`, and its owner is fenced off. The previous build until now is thrown away.
--
-- KEYS
--   1 projection  build (the live one), previous, candidate, left (the build that a rollback left), code:<version>
--                   ("gone": it was live, and was replaced)
--   2 candidate   owner, token, position
--   3 live        the build that is live: position, state; its owner loses it (owner, lease, where)
--   4 … the keys of the previous build, if there is one
--
-- ARGV
--   1 owner, 2 fencing token of the candidate, 3 candidate, 4 live, 5 previous ("" = none), 6 code version of the
--   candidate, 7 code version of the live build, 8 channel to tell the position to
--
-- Replies
--   {"ok"}: the candidate is live, by this call or an earlier one
--   {"owner"}: another runner owns the candidate, or it was claimed again
--   {"changed"}: the builds are not those that the caller names; nothing was done
--   {"lags", position of the candidate, position of the live build}: nothing was done

local projection, candidate, live = KEYS[1], KEYS[2], KEYS[3]
local stored = call('HMGET', projection, 'build', 'previous', 'candidate')
if stored[1] == ARGV[3] and stored[2] == ARGV[4] then return {'ok'} end -- sent again
if stored[1] ~= ARGV[4] or stored[3] ~= ARGV[3] or (stored[2] or '') ~= ARGV[5] then return {'changed'} end
local holds = call('HMGET', candidate, 'owner', 'token', 'position')
if holds[1] ~= ARGV[1] or holds[2] ~= ARGV[2] then return {'owner'} end
local position, goal = holds[3] or '0', call('HGET', live, 'position') or '0'
if whole_number(position, candidate, 'position') < whole_number(goal, live, 'position') then return {'lags', position, goal} end

call('PUBLISH', ARGV[8], position)
for i = 4, #KEYS do call('UNLINK', KEYS[i]) end
call('HSET', projection, 'build', ARGV[3], 'previous', ARGV[4])
call('HDEL', projection, 'candidate', 'left')
if ARGV[6] ~= ARGV[7] then
  call('HSET', projection, 'code:' .. ARGV[7], 'gone')
  call('HDEL', projection, 'code:' .. ARGV[6])
end
call('HDEL', live, 'owner', 'lease', 'where')
call('HSET', live, 'state', 'replaced')
return {'ok'}
