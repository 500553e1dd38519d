-- restore(step, epoch, restore id, …) -> {"ok" | "done", last position}
--
-- Puts events into an empty partition at the positions, numbers and times that they have in another store, with what
-- belongs to them: the floor, streams whose events were all trimmed, ids of trimmed events, bookmarks.
--
-- Invariant: after each run the log is sound, and a beginning of the one that is restored. From its first step to its
-- last the partition is marked, and the scripts that append or trim refuse it, so nobody else takes a position. Each
-- step can be sent again: what the partition holds already is passed over. The restore id tells this restore, with its
-- repetitions, from any other; the partition keeps it after the last step.
--
-- KEYS
--   1 log        every event, entry ID <position>-<number>
--   2 meta       epoch of the store; floor; restoring: the id of a restore that has begun; restored: of one that ended
--   3 bookmarks  by name: "<position> <run id of the call that set it>"
--   4 recent:0   the ids of the last events, by stream key and id: "<position>-<number>";
--   5 recent:1     see `append`
--   6 new        exists only inside this script: where a new index is made before it is copied into its place
--   7 ids        by event id: "<position>-<number>"; and the fields epoch and upto, see `index_ids`
--   8 … streams  indexes of streams, entry ID <number>-<position>
--
-- ARGV
--   1 step, 2 epoch, 3 restore id; then by step
--   "begin": the floor
--   "streams": for each stream <number>-<position> of its last event, which was trimmed
--   "ids": up to where the index of ids is complete, then fields and values of the index
--   "recent": for each recent id of a trimmed event which stream it is in (1 is that of KEYS[8]), the id, its place
--   "bookmarks": names and values
--   "events": for each event its stream in the same way, its entry ID, its envelope
--   "end": the last position
--
-- Replies
--   {"ok", last position}; {"done", last position}: this restore ended, in this run or an earlier one
--   {"occupied", last position}: the partition was used by others; {"other"}: another restore of it has begun
--   {"gap", which event, last position}: the event does not follow the one before it
--   {"numbers", which event, number of the stream's last event}: the event is not the next one of its stream
--   {"short", last position}: events are missing at the end
--   {"replaced"}: the store has another epoch

local log, meta, bookmarks, new, ids = KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7]
local RECENT = {KEYS[4], KEYS[5]}
local FIRST_STREAM, FIRST = 8, 4
local step, epoch, restore = ARGV[1], ARGV[2], ARGV[3]

local metadata = call('HMGET', meta, 'epoch', 'restoring', 'restored', 'floor')
if metadata[1] ~= epoch then return {'replaced'} end
local position, floor = split(last_id(log)), whole_number(metadata[4], meta, 'floor')
if metadata[3] == restore then return {'done', position} end
if metadata[2] and metadata[2] ~= restore then return {'other'} end

-- The index of a stream without events, whose last event had this number and position.
local function rest(stream, number, last)
  if last_id(stream) ~= '0-0' then return end
  call('XADD', new, number .. '-' .. last, '', '')
  call('XTRIM', new, 'MAXLEN', 0)
  place_index(new, stream)
end

-- Begins: only in a partition that holds nothing.
local function begin()
  if position > 0 or call('EXISTS', bookmarks) > 0 then return {'occupied', position} end
  call('HSET', meta, 'restoring', restore)
  if tonumber(ARGV[FIRST]) > 0 then
    call('HSET', meta, 'floor', ARGV[FIRST])
    call('XADD', log, ARGV[FIRST] .. '-1', 'e', '')
    call('XTRIM', log, 'MAXLEN', 0)
  end
  return {'ok', tonumber(ARGV[FIRST])}
end

-- Checks that each event follows the one before it, in the log and in its stream. Returns the indexes that are new.
local function check_events()
  local due, numbers, fresh = position, {}, {}
  for i = FIRST, #ARGV, 3 do
    local stream = KEYS[FIRST_STREAM + ARGV[i] - 1]
    local at, number = split(ARGV[i + 1])
    if at > position then
      if at ~= due + 1 then return {}, {'gap', (i - FIRST) / 3 + 1, due} end
      due = at
      local last = numbers[stream]
      if not last then
        last = split(last_id(stream))
        if last == 0 then
          fresh[#fresh + 1] = stream
          if number <= floor + 1 then last = number - 1 end -- the events before it were trimmed
        end
      end
      if number ~= last + 1 then return {}, {'numbers', (i - FIRST) / 3 + 1, last} end
      numbers[stream] = number
    end
  end
  return fresh
end

local function write_events()
  local fresh, fault = check_events()
  if fault then return fault end
  for i = FIRST, #ARGV, 3 do
    local stream, place, envelope = KEYS[FIRST_STREAM + ARGV[i] - 1], ARGV[i + 1], ARGV[i + 2]
    local at, _, p, n = split(place)
    if at > position then
      call('XADD', log, place, 'e', envelope)
      call('XADD', stream, n .. '-' .. p, '', '')
      place_id(RECENT, stream, event_id(envelope), at, place)
      position = at
    end
  end
  write_ids(generation_of(RECENT, position))
  for _, stream in ipairs(fresh) do
    call('RENAME', stream, new)
    place_index(new, stream)
  end
  return {'ok', position}
end

if not metadata[2] then
  if step ~= 'begin' then return {'occupied', position} end
  return begin()
end
if step == 'events' then return write_events() end
if step == 'streams' then
  for i = FIRST, #ARGV do
    local _, _, number, last = split(ARGV[i])
    rest(KEYS[FIRST_STREAM + i - FIRST], number, last)
  end
elseif step == 'ids' then
  call_in_chunks('HSET', ids, FIRST + 1, #ARGV, 2)
  call('HSET', ids, 'epoch', epoch, 'upto', ARGV[FIRST])
elseif step == 'recent' and position == floor then -- later their turn may be over
  for i = FIRST, #ARGV, 3 do
    local stream, id, place = KEYS[FIRST_STREAM + ARGV[i] - 1], ARGV[i + 1], ARGV[i + 2]
    call('HSET', generation_of(RECENT, split(place)), stream .. id, place)
  end
elseif step == 'bookmarks' then
  call_in_chunks('HSET', bookmarks, FIRST, #ARGV, 2)
elseif step == 'end' then
  if position ~= tonumber(ARGV[FIRST]) then return {'short', position} end
  call('HDEL', meta, 'restoring')
  call('HSET', meta, 'restored', restore)
  return {'done', position}
end
return {'ok', position}
