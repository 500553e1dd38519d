-- last_id(stream) -> the last entry ID that a stream has had
--
-- The ID outlives its entry: a trimmed stream keeps its version, and a log whose last entry was deleted its position.
--
-- KEYS
--   1 stream  an index or the log
--
-- Replies
--   the entry ID; "0-0" if there is no such stream

return (last_id(KEYS[1]))
