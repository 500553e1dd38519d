-- propose(build) -> {"ok"}
--
-- Begins a build of a projection beside the live one. A candidate that was being made is thrown away; if it was of other
-- code, that code counts as replaced, so that two versions do not take the place from each other for ever.
--
-- KEYS
--   1 projection  build (the live one), candidate, made (how many builds there were), code:<version> ("gone": it was
--                   replaced)
--   2 … the keys of the candidate before it, if there is one
--
-- ARGV
--   1 the live build, 2 the candidate there is ("" = none), 3 the new candidate, 4 how many builds were made,
--   5 code version of the new candidate, 6 code version of the one before ("" = none)
--
-- Replies
--   {"ok"}: the new candidate is there, by this call or an earlier one
--   {"changed"}: the builds are not those that the caller names; nothing was done

local projection = KEYS[1]
local stored = call('HMGET', projection, 'build', 'candidate', 'made')
if stored[2] == ARGV[3] then return {'ok'} end -- sent again
if stored[1] ~= ARGV[1] or (stored[2] or '') ~= ARGV[2] or (stored[3] or '1') ~= ARGV[4] then return {'changed'} end
for i = 2, #KEYS do call('UNLINK', KEYS[i]) end
if ARGV[6] ~= '' and ARGV[6] ~= ARGV[5] then call('HSET', projection, 'code:' .. ARGV[6], 'gone') end
call('HSET', projection, 'candidate', ARGV[3], 'made', int(ARGV[4] + 1))
return {'ok'}
