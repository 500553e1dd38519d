-- replace_record(revision before, revision after, record) -> {"ok"}
--
-- Writes a small record if the one that its writer had read is still there: what to write was decided by that one. A
-- call that arrives late, or is sent again because its reply was lost, changes nothing: its writer reads what stands
-- there, which may be its own, and decides anew.
--
-- KEYS
--   1 record  revision (random, new with each write), record
--
-- ARGV
--   1 revision before ("" = there was none), 2 revision after, 3 record
--
-- Replies
--   {"ok"}, {"moved"}: another is there

local stored = call('HGET', KEYS[1], 'revision') or ''
if stored ~= ARGV[1] then return {'moved'} end
call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
return {'ok'}
