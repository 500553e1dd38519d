-- create(format, partitions, epoch) -> {"ok", format, partitions, epoch}
--
-- Makes the store's info if there is none, and returns the info that is stored.
--
-- KEYS
--   1 meta  format, partitions, epoch
--   2 log   must not exist without meta
--
-- ARGV
--   1 format, 2 partitions, 3 epoch
--
-- Replies
--   {"ok", format, partitions, epoch}: as they are stored, by this call or an earlier one
--   {"orphan"}: there is a log without store info; nothing was made

if call('EXISTS', KEYS[1]) == 0 then
  if call('EXISTS', KEYS[2]) == 1 then return {'orphan'} end
  call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'epoch', ARGV[3])
end
local metadata = call('HMGET', KEYS[1], 'format', 'partitions', 'epoch')
return {'ok', metadata[1], metadata[2], metadata[3]}
