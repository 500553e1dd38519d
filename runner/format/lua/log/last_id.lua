-- last_id(stream) -> the last entry ID that a stream has had, or false
--
-- It outlives its entry: a trimmed stream keeps its version, and a log whose last entry was deleted its position.
--
-- KEYS
--   1 stream  an index or the log

local call = redis.call
if call('EXISTS', KEYS[1]) == 0 then return false end
local info = call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then return info[i + 1] end
end
