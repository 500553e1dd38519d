-- replace_record(revision before, revision after, record) -> {"ok"}
--
-- Writes a small record if it is still the one that its writer had read: what to write was decided by that one. A call
-- that is sent again, because its reply was lost, finds the revision that it wrote itself and answers as it did then;
-- one that arrives late, after others have written, changes nothing.
--
-- KEYS
--   1 record  revision (random, new with each write), record
--
-- ARGV
--   1 revision before ("" = there was none), 2 revision after, 3 record
--
-- Replies
--   {"ok"}, {"moved"}: someone else wrote it

local stored = redis.call('HGET', KEYS[1], 'revision') or ''
if stored == ARGV[2] then return {'ok'} end
if stored ~= ARGV[1] then return {'moved'} end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
return {'ok'}
