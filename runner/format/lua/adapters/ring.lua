-- ring(channel) -> how many heard it
--
-- Wakes those who wait on a channel. It is sent after a command whose answer counts, so it never fails: a user without
-- the right to publish wakes no one, and those who wait look by themselves now and then.
--
-- KEYS
--   1 meta  only says which partition this is for
--
-- ARGV
--   1 channel
--
-- Replies
--   how many heard it; 0 where the user may not publish

local heard = redis.pcall('PUBLISH', ARGV[1], '')
return type(heard) == 'number' and heard or 0
