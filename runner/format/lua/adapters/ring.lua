-- ring(channel) -> how many heard it
--
-- Wakes the processes that wait on a channel. It is sent after a command whose answer counts, so it never fails:
-- without the right to publish it wakes no process, and each waiting process looks by itself now and then.
--
-- KEYS
--   1 meta  only says which partition this is for
--
-- ARGV
--   1 channel
--
-- Replies
--   how many heard it; 0 if the user may not publish

local heard = redis.pcall('PUBLISH', ARGV[1], '')
return type(heard) == 'number' and heard or 0
