-- rows_at(keys) -> {position, rows}
--
-- Reads rows of a view, and the position of the build that they belong to, in one step.
--
-- KEYS
--   1 build  position
--   2 view   rows
--
-- ARGV
--   1 … the keys of the rows; from one to some thousands
--
-- Replies
--   {position, {row, …}}: in the order of the keys, with a nil for a row that does not exist

return {call('HGET', KEYS[1], 'position') or '0', call('HMGET', KEYS[2], unpack(ARGV))}
