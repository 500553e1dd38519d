-- announce(runner, lease) -> {member, member, …}
--
-- Says that a runner is alive, or that it is leaving, and who else is.
--
-- KEYS
--   1 runners  members, with the time (µs) at which each is taken for dead
--
-- ARGV
--   1 member: the runner's id, and what it runs; 2 lease in ms ("0": it leaves)

local call = redis.call
local LEASES = 10 -- no runner's lease is that much longer than another's
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[2] == '0' then
  call('ZREM', KEYS[1], ARGV[1])
else
  -- The clock was put back: whoever died before it would count until it is there again.
  for _, member in ipairs(call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + ARGV[2] * 1000 * LEASES), '+inf')) do
    call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2] * 1000), member)
  end
  call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2] * 1000), ARGV[1])
end
return call('ZRANGE', KEYS[1], 0, -1)
