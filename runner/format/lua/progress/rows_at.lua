-- rows_at(keys) -> {position, rows}
--
-- Rows of a view, and the position that all of them stand at.
--
-- KEYS
--   1 build  position
--   2 view   rows
--
-- ARGV
--   1 … the keys of the rows; from one to some thousands
--
-- Replies
--   {position, {row, …}}: in the order of the keys, with a nil where there is none

return {call('HGET', KEYS[1], 'position') or '0', call('HMGET', KEYS[2], unpack(ARGV))}
