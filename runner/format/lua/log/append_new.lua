-- append_new(epoch, run id, expected version, envelopes) -> {"ok", version, first position, last position}
--
-- Appends events to one stream, all or nothing, if their ids are new in the whole partition. The index of ids tells
-- that. The index must be complete: `index_ids` completes it, and this script keeps it complete.
--
-- It is not idempotent as `append` is: an id that the store has is refused, even from the same caller. Only this very
-- call, sent again, finds its run id beside the id of its first event, and gets its first answer.
--
-- KEYS
--   1 log     every event, entry ID <position>-<number>
--   2 meta    epoch of the store; floor: how many entries were trimmed from the start of the log; restoring
--   3 new     exists only inside this script: where a new index is made before it is copied into its place
--   4 stream  the index of the stream, entry ID <number>-<position>
--   5 ids     by event id: "<position>-<number>", and " <run id>" after that of the first event of a call; and the
--               fields epoch and upto, see `index_ids`
--   6 recent:0   the ids of the last events, by stream key and id: "<position>-<number>";
--   7 recent:1     see `append`
--
-- ARGV
--   1 epoch, 2 run id: a random number that tells this call, with its repetitions, from any other,
--   3 expected version: a number, "any" or "exists"; then the envelopes
--
-- Replies
--   {"ok" | "duplicate", version, first position, last position}: positions are 0 if there are no events
--   {"wrong_version", actual version}, {"known", which event of the call, its position}
--   {"unindexed", up to where the ids are complete, last position}
--   {"replaced"}: the store has another epoch; {"corrupt", last position, length, floor}: entries are missing
--   {"restoring"}: events are put in from elsewhere, see `restore`

local log, meta, new, stream, ids = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RECENT = {KEYS[6], KEYS[7]}
local epoch, run_id, expected = ARGV[1], ARGV[2], ARGV[3]
local FIRST = 4
local count = #ARGV - FIRST + 1

local position, floor, fault = log_end(log, meta, epoch)
if fault then return fault end

local index = call('HMGET', ids, 'epoch', 'upto')
local upto = index[1] == epoch and whole_number(index[2], ids, 'upto') or 0
if upto ~= position or index[1] and index[1] ~= epoch then return {'unindexed', upto, position} end

local tail = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
local version, at = split(tail[1] and tail[1][1] or last_id(stream))
if at > position then return {'corrupt', position, position - floor, floor} end
if expected == 'exists' and version == 0 then return {'wrong_version', 0} end

if count > 0 then
  local found = call('HGET', ids, event_id(ARGV[FIRST])) or ''
  local first, number, caller = string.match(found, '^(%d+)-(%d+) (.+)$')
  if caller == run_id then return {'duplicate', number + count - 1, tonumber(first), first + count - 1} end
end
if tonumber(expected) and tonumber(expected) ~= version then return {'wrong_version', version} end
for i = FIRST, #ARGV do
  local found = call('HGET', ids, event_id(ARGV[i]))
  if found then return {'known', i - FIRST + 1, whole_number(string.match(found, '^%d+') or '', ids, 'of an event id')} end
end
if count == 0 then return {'ok', version, 0, 0} end

if version == 0 then
  check_right('copy', stream, stream)
  check_right('del', stream)
end
check_right('hset', ids, 'upto', '0')
check_right('hset', RECENT[1], ids, ids)

local first, number = position + 1, version
local target = version == 0 and new or stream
for i = FIRST, #ARGV do
  position = position + 1
  number = number + 1
  local p, n, id = int(position), int(number), event_id(ARGV[i])
  local place = p .. '-' .. n
  call('XADD', log, place, 'e', ARGV[i])
  call('XADD', target, n .. '-' .. p, '', '')
  local caller = i == FIRST and ' ' .. run_id or ''
  call('HSET', ids, id, place .. caller, 'upto', p, 'epoch', epoch)
  place_id(RECENT, stream, id, position, place)
end
write_ids(generation_of(RECENT, position))
if target == new then place_index(new, stream) end
return {'ok', number, first, position}
