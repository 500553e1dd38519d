-- report(owner, fencing token, state) -> {"ok"}
--
-- The heartbeat of a build's owner: reports what the owner is doing, renews its lease or releases it, and compares the
-- log with the checkpoint, and the view with the number of its rows. It is refused if another runner owns the build, and
-- if the build is not the live one any more.
--
-- KEYS
--   1 build  owner, token, where, lease, state, error, traceback, seen (µs), checkpoint (position, id), rows
--   2 log    the event of the checkpoint must be in it
--   3 meta   epoch of the store, floor
--   4 projection  build (the live one)
--   5 view   the rows of the build
--
-- ARGV
--   1 owner, 2 fencing token, 3 state, 4 error ("" = none), 5 lease in ms ("0" releases it), 6 epoch of the store,
--   7 position that is committed, as the owner was told, 8 the build, if the owner takes it for the live one (else ""),
--   9 traceback of the error; "" = none, or the one that is stored with this error
--
-- Replies
--   {"ok"}
--   {"owner"}: another runner owns the build, or it was claimed again
--   {"moved"}: the checkpoint is before the position that was committed
--   {"replaced"}: the build is not the live one
--   {"suspect"}: the store has another epoch, or the log holds another event at the checkpoint, or none, or the view
--     has not as many rows as it should have

local build, log, meta = KEYS[1], KEYS[2], KEYS[3]

local stored = call('HMGET', build, 'owner', 'token', 'position', 'id', 'rows', 'error')
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then return {'owner'} end
local position, rows = whole_number(stored[3], build, 'position'), whole_number(stored[5], build, 'rows')
if position < tonumber(ARGV[7]) then return {'moved'} end
if ARGV[8] ~= '' and call('HGET', KEYS[4], 'build') ~= ARGV[8] then return {'replaced'} end
local now = server_time()
call('HSET', build, 'state', ARGV[3], 'error', ARGV[4], 'seen', int(now))
if ARGV[9] ~= '' then
  call('HSET', build, 'traceback', ARGV[9])
elseif ARGV[4] == '' or ARGV[4] ~= stored[6] then
  call('HDEL', build, 'traceback')
end
if ARGV[5] == '0' then
  call('HDEL', build, 'owner', 'lease', 'where')
  return {'ok'}
end
call('HSET', build, 'lease', int(now + ARGV[5] * 1000))

local metadata = call('HMGET', meta, 'epoch', 'floor')
if metadata[1] ~= ARGV[6] then return {'suspect'} end
if position > whole_number(metadata[2], meta, 'floor') and event_at(log, stored[3]) ~= stored[4] then
  return {'suspect'}
end
if stored[5] and call('HLEN', KEYS[5]) ~= rows then return {'suspect'} end
return {'ok'}
