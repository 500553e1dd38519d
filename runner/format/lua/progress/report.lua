-- report(owner, token, state) -> {"ok"}
--
-- The heartbeat of a build's owner: says what it is doing, renews its lease or gives it back, and compares history
-- with the checkpoint. Anyone else's word is refused, and the owner's where the store has forgotten that it is live.
--
-- KEYS
--   1 build  owner, token, lease, state, error, seen (µs), checkpoint (position, id)
--   2 log    the event of the checkpoint must be in it
--   3 meta   epoch of the store, floor
--   4 projection  build (the live one)
--
-- ARGV
--   1 owner, 2 token, 3 state, 4 error ("" = none), 5 lease in ms ("0" gives it back), 6 epoch of the store,
--   7 position that the owner was told is committed, 8 the build, if the owner takes it for the live one (else "")
--
-- Replies
--   {"ok"}, {"owner", who}, {"moved", position}: the checkpoint is behind what was committed; {"replaced"}: the build
--   is not the live one; {"suspect"}: the store is another, or the event of the checkpoint is not there

local call = redis.call
local build, log, meta = KEYS[1], KEYS[2], KEYS[3]
local ID_FIRST, ID_LAST = 4, 19 -- where the envelope holds the event id

local stored = call('HMGET', build, 'owner', 'token', 'position', 'id')
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then return {'owner', stored[1] or ''} end
if tonumber(stored[3] or 0) < tonumber(ARGV[7]) then return {'moved', stored[3] or '0'} end
if ARGV[8] ~= '' and call('HGET', KEYS[4], 'build') ~= ARGV[8] then return {'replaced'} end
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
call('HSET', build, 'state', ARGV[3], 'error', ARGV[4], 'seen', string.format('%.0f', now))
if ARGV[5] == '0' then
  call('HDEL', build, 'owner', 'lease', 'where')
  return {'ok'}
end
call('HSET', build, 'lease', string.format('%.0f', now + ARGV[5] * 1000))

local info = call('HMGET', meta, 'epoch', 'floor')
if info[1] ~= ARGV[6] then return {'suspect'} end
local position = tonumber(stored[3] or 0)
if position > tonumber(info[2] or 0) then
  local entry = call('XRANGE', log, stored[3], stored[3])[1]
  if not entry or string.sub(entry[2][2], ID_FIRST, ID_LAST) ~= stored[4] then return {'suspect'} end
end
return {'ok'}
