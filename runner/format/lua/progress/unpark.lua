-- unpark(row, parked events) -> {"ok"} or {"changed"}
--
-- Takes parked events of one row out, in one step with what they made of the row. The row's owner does not write a row
-- that is parked, so what is compared is the row as it was read, and that the events are parked still. The generation is
-- counted on whenever events are taken out: the owner's next commit is refused, and it looks again what is parked.
--
-- KEYS
--   1 build, 2 view, 3 parked, 4 skipped
--
-- ARGV
--   1 row, 2 the row before, 3 the row after, each with "=" before it ("" = there is none);
--   4 position, 5 record of the one that failed again ("" = none);
--   6 how many are taken out, their positions, then a record each if they are skipped

local call = redis.call
local build, view, parked, skipped = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local row, before, after = ARGV[1], ARGV[2], ARGV[3]
local count = tonumber(ARGV[6])
local FIRST = 7

local stored = call('HGET', view, row)
if (stored and '=' .. stored or '') ~= before then return {'changed'} end
for i = FIRST, FIRST + count - 1 do
  if call('HEXISTS', parked, ARGV[i]) == 0 then return {'changed'} end
end
if ARGV[4] ~= '' and call('HEXISTS', parked, ARGV[4]) == 0 then return {'changed'} end
if after ~= before then
  if after == '' then call('HDEL', view, row) else call('HSET', view, row, string.sub(after, 2)) end
end
for i = FIRST, FIRST + count - 1 do
  call('HDEL', parked, ARGV[i])
  if ARGV[i + count] then call('XADD', skipped, 'MAXLEN', '~', 10000, '*', 'e', ARGV[i + count]) end
end
if ARGV[4] ~= '' then call('HSET', parked, ARGV[4], ARGV[5]) end
if count > 0 then call('HINCRBY', build, 'generation', 1) end
return {'ok'}
