-- unpark(row, parked events) -> {"ok"}
--
-- Takes parked events of one row out, in one step with what they made of the row. The row's owner does not write a row
-- that is parked, so what is compared is the row as it was read, and that the events are parked still. The generation is
-- counted on whenever events are taken out: the owner's next commit is refused, and it looks again what is parked.
--
-- KEYS
--   1 build    generation
--   2 view     the rows of the build
--   3 parked   events set aside: position -> why
--   4 skipped  records of events that were gone on without
--
-- ARGV
--   1 row, 2 the row before, 3 the row after, each with "=" before it ("" = there is none);
--   4 position, 5 record of the one that failed again ("" = none);
--   6 how many are taken out, 7 … their positions, then a record each if they are skipped
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
if after ~= before then
  if after == '' then call('HDEL', view, row) else call('HSET', view, row, string.sub(after, 2)) end
end
call_in_chunks('HDEL', parked, FIRST, LAST, 1)
for i = LAST + 1, #ARGV do note_skipped(skipped, ARGV[i]) end
if ARGV[4] ~= '' then call('HSET', parked, ARGV[4], ARGV[5]) end
if count > 0 then call('HINCRBY', build, 'generation', 1) end
return {'ok'}
