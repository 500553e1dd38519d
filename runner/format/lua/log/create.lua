-- create(format, partitions, epoch, tags) -> {"ok", format, partitions, epoch, tags, needs}
--
-- Makes the store's info if there is none, and returns the info that is stored.
--
-- KEYS
--   1 meta  format, partitions, epoch, tags (the suffixes of the partitions' tags), needs (what a program must know to
--             open the store)
--   2 log   must not exist without meta
--
-- ARGV
--   1 format, 2 partitions, 3 epoch, 4 tags
--
-- Replies
--   {"ok", format, partitions, epoch, tags, needs}: as they are stored, by this call or an earlier one
--   {"orphan"}: there is a log without store info; nothing was made

if call('EXISTS', KEYS[1]) == 0 then
  if call('EXISTS', KEYS[2]) == 1 then return {'orphan'} end
  call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'epoch', ARGV[3], 'tags', ARGV[4])
end
local metadata = call('HMGET', KEYS[1], 'format', 'partitions', 'epoch', 'tags', 'needs')
return {'ok', metadata[1], metadata[2], metadata[3], metadata[4], metadata[5]}
