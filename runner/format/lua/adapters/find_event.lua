-- find_event(id, from, count) -> {"found", entry ID}
--
-- Looks for the event with an id among the next entries of a log. It compares only ids and returns only an entry ID, so
-- it costs far less than reading the events.
--
-- KEYS
--   1 log  every event of the partition
--
-- ARGV
--   1 event id (16 bytes), 2 the first position to look at, 3 how many entries to look at
--
-- Replies
--   {"found", entry ID}, {"end"}: the log does not hold it
--   {"further", entry ID}: it is not among the entries up to this one

local from, left = ARGV[2], tonumber(ARGV[3])
local STEP = 8 -- few at a time: each may take a megabyte
local last
while left > 0 do
  local wanted = math.min(STEP, left)
  local entries = call('XRANGE', KEYS[1], from, '+', 'COUNT', wanted)
  for _, entry in ipairs(entries) do
    if event_id(entry[2][2]) == ARGV[1] then return {'found', entry[1]} end
    last = entry[1]
  end
  if #entries < wanted then return {'end'} end
  from, left = '(' .. last, left - wanted
end
return {'further', last}
