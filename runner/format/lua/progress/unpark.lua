-- unpark(row, parked events) -> {"ok"}
--
-- Removes parked events of one row and writes the row that they made, in one step. The owner of the build does not
-- write a row that has parked events. So the script only checks that the row is as it was read, and that the events are
-- still parked. Each removal raises the generation: the owner's next commit is refused, and the owner reads again which
-- events are parked.
--
-- KEYS
--   1 build    generation, rows (how many the view has; absent in stores of format 1)
--   2 view     the rows of the build
--   3 parked   parked events: position -> record
--   4 skipped  records of skipped events
--
-- ARGV
--   1 row, 2 the row before, 3 the row after, each with "=" before it ("" = there is none);
--   4 position, 5 record of the event that failed again ("" = none);
--   6 how many events are removed, 7 … their positions, then a record each if they are skipped
--
-- Replies
--   {"ok"}; {"changed"}: the row is another, or one of the events is not parked any more; nothing was done

local build, view, parked, skipped = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local row, before, after = ARGV[1], ARGV[2], ARGV[3]
local count = tonumber(ARGV[6])
local FIRST, LAST = 7, 6 + count

local stored = call('HGET', view, row)
if (stored and '=' .. stored or '') ~= before then return {'changed'} end
for i = FIRST, LAST do
  if call('HEXISTS', parked, ARGV[i]) == 0 then return {'changed'} end
end
if ARGV[4] ~= '' and call('HEXISTS', parked, ARGV[4]) == 0 then return {'changed'} end
whole_number(call('HGET', build, 'generation'), build, 'generation')
whole_number(call('HGET', build, 'rows'), build, 'rows')
if #ARGV > LAST then call('XLEN', skipped) end -- a key of another type shows before the first write
if after ~= before then
  local change
  if after == '' then change = -call('HDEL', view, row) else change = call('HSET', view, row, string.sub(after, 2)) end
  if change ~= 0 and call('HEXISTS', build, 'rows') == 1 then call('HINCRBY', build, 'rows', int(change)) end
end
call_in_chunks('HDEL', parked, FIRST, LAST, 1)
for i = LAST + 1, #ARGV do note_skipped(skipped, ARGV[i]) end
if ARGV[4] ~= '' then call('HSET', parked, ARGV[4], ARGV[5]) end
if count > 0 then call('HINCRBY', build, 'generation', 1) end
return {'ok'}
