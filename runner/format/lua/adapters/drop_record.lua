-- drop_record(field, value) -> 1 if it was removed, 0 if it is another by now
--
-- Removes a field of a hash, if it still has the value that it was read with.
--
-- KEYS
--   1 records  by field: the record
--
-- ARGV
--   1 field, 2 value
--
-- Replies
--   1, 0

if call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return call('HDEL', KEYS[1], ARGV[1])
