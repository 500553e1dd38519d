-- commit(checkpoint before, checkpoint after, owner, rows, events set aside) -> {"ok"}
--
-- Writes changed rows of a view, events set aside and the checkpoint, in one step: a view sees every event once.
--
-- Invariant: the rows are the fold of the log up to the stored checkpoint, without the events that were set aside. It
-- holds because a commit is refused unless
--   - the stored checkpoint is the one that its rows were folded from,
--   - its writer holds the build under the fencing token that the commit names,
--   - no parked row was set free since its writer looked,
--   - the view has as many rows as the commits have left there, and
--   - the log still holds the events of both checkpoints: a failover takes back the tail of the log, and another writer
--     may put other events in its place, while a commit that was folded from the lost events is on its way.
-- A commit that is sent again, because its reply was lost, finds the checkpoint that it set itself and gives its first
-- answer.
--
-- KEYS
--   1 build    checkpoint (position, id), owner, token, generation, ahead, applied, skips, updated, rows (how many the
--                view has; absent in stores of format 1)
--   2 view     the rows of the build
--   3 parked   parked events: position -> record
--   4 skipped  records of skipped events
--   5 log      the events of both checkpoints must be in it, or have been trimmed
--   6 meta     floor
--
-- ARGV
--   1 owner, 2 fencing token, 3 generation, 4 position before, 5 id before, 6 position after, 7 id after,
--   8 events handled, 9 ahead: the caller's own data about events after the position that are done,
--   10 channel to tell the position to; how many of each follow:
--   11 rows to set (key, value), 12 rows to delete (key), 13 parked (position, record),
--   14 skipped (record)
--
-- Replies
--   {"ok"}
--   {"owner"}: another runner owns the build, or it was claimed again
--   {"generation"}: parked rows were set free
--   {"moved"}: the stored checkpoint is another
--   {"rows"}: the view has not as many rows as it should have
--   {"suspect"}: the log holds another event at the position before or after, or none

local build, view, parked, skipped = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, token, generation = ARGV[1], ARGV[2], ARGV[3]
local before, id_before, after, id_after = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local FIRST = 15

local function holds(at, event)
  local found = event_at(KEYS[5], at)
  return found == event or not found and tonumber(at) <= whole_number(call('HGET', KEYS[6], 'floor'), KEYS[6], 'floor')
end

local stored = call('HMGET', build, 'owner', 'token', 'position', 'id', 'generation', 'rows', 'applied', 'skips')
if stored[1] ~= owner or stored[2] ~= token then return {'owner'} end
local position, id = stored[3] or '0', stored[4] or ''
if position == after and id == id_after and after ~= before then return {'ok'} end
if position ~= before or id ~= id_before then return {'moved'} end
if (stored[5] or '0') ~= generation then return {'generation'} end
local rows = stored[6] and whole_number(stored[6], build, 'rows')
whole_number(stored[7], build, 'applied')
whole_number(stored[8], build, 'skips')
if ARGV[13] ~= '0' then call('HLEN', parked) end -- a key of another type shows before the first write
if ARGV[14] ~= '0' then call('XLEN', skipped) end
if rows and call('HLEN', view) ~= rows then return {'rows'} end
if position ~= '0' and not holds(position, id) then return {'suspect'} end
if after ~= before and not holds(after, id_after) then return {'suspect'} end

if after ~= before then call('PUBLISH', ARGV[10], after) end -- first, so that a missing right shows before any write
local from = FIRST
local function write(command, key, count, width)
  local first = from
  from = first + count * width
  return call_in_chunks(command, key, first, from - 1, width)
end
local added = write('HSET', view, tonumber(ARGV[11]), 2)
local removed = write('HDEL', view, tonumber(ARGV[12]), 1)
write('HSET', parked, tonumber(ARGV[13]), 2)
for at = from, from + tonumber(ARGV[14]) - 1 do note_skipped(skipped, ARGV[at]) end

call('HSET', build, 'position', after, 'id', id_after, 'updated', int(server_time()))
if rows and added ~= removed then call('HINCRBY', build, 'rows', int(added - removed)) end
if ARGV[8] ~= '0' then call('HINCRBY', build, 'applied', ARGV[8]) end
if ARGV[14] ~= '0' then call('HINCRBY', build, 'skips', ARGV[14]) end
if ARGV[9] ~= '' then call('HSET', build, 'ahead', ARGV[9]) end
return {'ok'}
