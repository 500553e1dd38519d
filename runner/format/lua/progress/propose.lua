-- propose(build) -> {"ok"}
--
-- Begins a build of a projection beside the live one. An earlier candidate is thrown away. If other code made it, that
-- code counts as replaced: otherwise two versions of the code could replace each other's candidate for ever.
--
-- KEYS
--   1 projection  build (the live one), candidate, made (how many builds there were), code:<version> ("gone": it was
--                   replaced)
--   2 … the keys of the earlier candidate, if there is one
--
-- ARGV
--   1 the live build, 2 the earlier candidate ("" = none), 3 the new candidate, 4 how many builds were made,
--   5 code version of the new candidate, 6 code version of the earlier candidate ("" = none)
--
-- Replies
--   {"ok"}: the new candidate has begun, by this call or an earlier one
--   {"changed"}: the builds are not those that the caller names; nothing was done

local projection = KEYS[1]
local stored = call('HMGET', projection, 'build', 'candidate', 'made')
if stored[2] == ARGV[3] then return {'ok'} end -- sent again
if stored[1] ~= ARGV[1] or (stored[2] or '') ~= ARGV[2] or (stored[3] or '1') ~= ARGV[4] then return {'changed'} end
for i = 2, #KEYS do call('UNLINK', KEYS[i]) end
if ARGV[6] ~= '' and ARGV[6] ~= ARGV[5] then call('HSET', projection, 'code:' .. ARGV[6], 'gone') end
call('HSET', projection, 'candidate', ARGV[3], 'made', int(ARGV[4] + 1))
return {'ok'}
