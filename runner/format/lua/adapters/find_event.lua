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

local entries = call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  if event_id(entry[2][2]) == ARGV[1] then return {'found', entry[1]} end
end
if #entries < tonumber(ARGV[3]) then return {'end'} end
return {'further', entries[#entries][1]}
