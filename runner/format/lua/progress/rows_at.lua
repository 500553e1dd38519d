-- rows_at(keys) -> {position, rows}
--
-- Rows of a view, and the position that all of them stand at.
--
-- KEYS
--   1 build  position
--   2 view   rows
--
-- ARGV
--   1 … the keys of the rows; at least one

return {redis.call('HGET', KEYS[1], 'position') or '0', redis.call('HMGET', KEYS[2], unpack(ARGV))}
