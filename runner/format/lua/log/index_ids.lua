-- index_ids(epoch, count) -> {"ok", up to where the index is complete, last position}
--
-- Brings the index of event ids up to date with the log, by the next `count` entries that it lacks. That is needed if
-- events were appended without the index: before it was made, or by writers that do not keep it.
--
-- Invariant: the index has the id of every event up to position `upto`. It keeps the ids of events that were trimmed
-- since. An id that the log holds twice (in two streams) has its first place. An index of another epoch, or one that is
-- complete beyond the end of the log, belongs to another log and is made again from the beginning. Events that were
-- trimmed before they were indexed are not known.
--
-- KEYS
--   1 log   every event, entry ID <position>-<number>
--   2 meta  epoch of the store
--   3 ids   by event id (16 bytes): "<position>-<number>", and " <run id>" after that of the first event of an append;
--             and the fields epoch, of the store whose log this is, and upto
--
-- ARGV
--   1 epoch, 2 count
--
-- Replies
--   {"ok", upto, last position}: they are equal once the index is complete
--   {"replaced"}: the store has another epoch

local log, meta, ids = KEYS[1], KEYS[2], KEYS[3]
local epoch, count = ARGV[1], tonumber(ARGV[2])

if call('HGET', meta, 'epoch') ~= epoch then return {'replaced'} end
local last = split(last_id(log))

local index = call('HMGET', ids, 'epoch', 'upto')
local upto = whole_number(index[2], ids, 'upto')
if index[1] and (index[1] ~= epoch or upto > last) then
  call('UNLINK', ids)
  upto = 0
end
if upto == last and index[1] == epoch then return {'ok', upto, last} end

local found = 0
while found < count and upto < last do
  local entry = call('XRANGE', log, int(upto + 1), '+', 'COUNT', 1)[1] -- one at a time: each may take a megabyte
  if not entry then
    upto = last
    break
  end
  found = found + 1
  upto = split(entry[1])
  local id = event_id(entry[2][2] or '')
  if #id == 16 then call('HSETNX', ids, id, entry[1]) end
end
call('HSET', ids, 'epoch', epoch, 'upto', int(upto))
return {'ok', upto, last}
