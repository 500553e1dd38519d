-- announce(runner, lease) -> {member, member, …}
--
-- Says that a runner is alive, or that it is leaving, and returns all runners that are alive.
--
-- KEYS
--   1 runners  members, with the time (µs) until which each counts as alive
--
-- ARGV
--   1 member: the runner's id, where it runs, and the version of its code of each projection; 2 lease in ms ("0": it
--   leaves)
--
-- Replies
--   {member, …}: the members that count as alive, in the order of their times

local runners, member, lease = KEYS[1], ARGV[1], ARGV[2] * 1000
local LEASES = 10 -- no runner's lease is that much longer than another's

local now = server_time()
call('ZREMRANGEBYSCORE', runners, '-inf', int(now))
if lease == 0 then
  call('ZREM', runners, member)
else
  -- The server's clock was put back: a runner that died before that would count as alive for as long as the clock lags.
  for _, late in ipairs(call('ZRANGEBYSCORE', runners, '(' .. int(now + lease * LEASES), '+inf')) do
    call('ZADD', runners, int(now + lease), late)
  end
  call('ZADD', runners, int(now + lease), member)
end
return call('ZRANGE', runners, 0, -1)
