-- rollback(live, previous) -> {"ok", position}
--
-- Makes the previous build the live one again; the two builds change places. The owner of the live one is fenced off; the
-- previous one has none. The record keeps which build was left by a rollback, until that build is live again or another
-- one is switched to.
--
-- KEYS
--   1 projection  build (the live one), previous, left (the build that a rollback left), code:<version> ("gone": it was
--                   live, and was replaced)
--   2 live, 3 previous  owner, lease, where, state; position
--   4 meta        floor: the events after the position of the previous build, and its parked events, must be there
--   5 parked      parked events of the previous build
--
-- ARGV
--   1 live, 2 previous, 3 code version of the live build, 4 code version of the previous one, 5 channel to tell the
--   position to, 6 "1": only say what would be done
--
-- Replies
--   {"ok", position}: the position of the build that is live now, or would be
--   {"trimmed", position, floor}: the events after the position were trimmed; nothing was done
--   {"changed"}: the builds are not those that the caller names; nothing was done

local projection, live, previous = KEYS[1], KEYS[2], KEYS[3]
local stored = call('HMGET', projection, 'build', 'previous', 'left')
local position, floor = call('HGET', previous, 'position') or '0', whole_number(call('HGET', KEYS[4], 'floor'), KEYS[4], 'floor')
local needed = whole_number(position, previous, 'position')
for _, parked in ipairs(call('HKEYS', KEYS[5])) do
  needed = math.min(needed, whole_number(parked, KEYS[5], parked) - 1)
end
call('HEXISTS', live, 'owner') -- a record of another type shows before the first write
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then return {'changed'} end
if needed < floor then return {'trimmed', needed, floor} end
if ARGV[6] == '1' then return {'ok', position} end
call('PUBLISH', ARGV[5], position)
call('HSET', projection, 'build', ARGV[2], 'previous', ARGV[1])
if stored[3] == ARGV[2] then call('HDEL', projection, 'left') else call('HSET', projection, 'left', ARGV[1]) end
if ARGV[3] ~= ARGV[4] then
  call('HSET', projection, 'code:' .. ARGV[3], 'gone')
  call('HDEL', projection, 'code:' .. ARGV[4])
end
call('HDEL', live, 'owner', 'lease', 'where')
call('HSET', live, 'state', 'replaced')
call('HSET', previous, 'state', 'idle')
return {'ok', position}
