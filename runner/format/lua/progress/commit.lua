-- commit(checkpoint before, checkpoint after, owner, rows, events set aside) -> {"ok"}
--
-- Writes the changed rows of a view, what was set aside, and the checkpoint, in one step: a view sees every event once.
--
-- Invariant: the rows are the fold of the log up to the stored checkpoint, without the events that were set aside. It
-- holds because a commit is refused unless the stored checkpoint is the one that its rows were folded from, its writer
-- holds the build under the fencing token it names, no parked row was set free since it looked, and the log still holds
-- the event that the checkpoint stands on. A commit that is sent again, because its reply was lost, finds the checkpoint
-- that it set itself and answers as it did then.
--
-- KEYS
--   1 build    checkpoint (position, id), owner, token, generation, ahead, applied, skips, updated
--   2 view     the rows of the build
--   3 parked   events set aside: position -> why
--   4 skipped  records of events that were gone on without
--   5 log      the event of the checkpoint before must be in it
--   6 meta     floor
--
-- ARGV
--   1 owner, 2 token, 3 generation, 4 position before, 5 id before, 6 position after, 7 id after, 8 events handled,
--   9 ahead: what the caller has done beyond the position (its own affair), 10 channel to tell the position to;
--   how many of each follow:
--   11 rows to set (key, value), 12 rows to delete (key), 13 parked (position, record),
--   14 skipped (record)
--
-- Replies
--   {"ok"}, {"owner", who}, {"generation", which}, {"moved", position}, {"suspect", position}: another event is there

local call = redis.call
local build, view, parked, skipped = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, token, generation = ARGV[1], ARGV[2], ARGV[3]
local before, id_before, after, id_after = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local FIRST = 15
local ID_FIRST, ID_LAST = 4, 19 -- where the envelope holds the event id
local CHUNK = 1000 -- unpack fails near 8,000
local KEPT = 10000 -- records of skipped events

local stored = call('HMGET', build, 'owner', 'token', 'position', 'id', 'generation')
if stored[1] ~= owner or stored[2] ~= token then return {'owner', stored[1] or ''} end
local position, id = stored[3] or '0', stored[4] or ''
if position == after and id == id_after and after ~= before then return {'ok'} end
if position ~= before or id ~= id_before then return {'moved', position} end
if (stored[5] or '0') ~= generation then return {'generation', stored[5]} end
if position ~= '0' then
  local entry = call('XRANGE', KEYS[5], position, position)[1]
  if not entry or string.sub(entry[2][2], ID_FIRST, ID_LAST) ~= id then
    local floor = tonumber(call('HGET', KEYS[6], 'floor') or 0)
    if entry or tonumber(position) > floor then return {'suspect', position} end
  end
end

if after ~= before then call('PUBLISH', ARGV[10], after) end -- first: it is refused before anything is written
local from = FIRST
local function write(command, key, count, width)
  local to = from + count * width - 1
  for at = from, to, CHUNK * width do
    call(command, key, unpack(ARGV, at, math.min(at + CHUNK * width - 1, to)))
  end
  from = to + 1
end
write('HSET', view, tonumber(ARGV[11]), 2)
write('HDEL', view, tonumber(ARGV[12]), 1)
write('HSET', parked, tonumber(ARGV[13]), 2)
for at = from, from + tonumber(ARGV[14]) - 1 do
  call('XADD', skipped, 'MAXLEN', '~', KEPT, '*', 'e', ARGV[at])
end

local now = call('TIME')
call('HSET', build, 'position', after, 'id', id_after, 'updated', now[1] .. string.format('%06d', now[2]))
if ARGV[8] ~= '0' then call('HINCRBY', build, 'applied', ARGV[8]) end
if ARGV[14] ~= '0' then call('HINCRBY', build, 'skips', ARGV[14]) end
if ARGV[9] ~= '' then
  call('HSET', build, 'ahead', ARGV[9])
end
return {'ok'}
