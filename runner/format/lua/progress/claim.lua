-- claim(owner, build) -> {"ok", position, id, fencing token, generation, ahead, resets, token before, mixed, where, ms}
--
-- Makes the caller the owner of a build of a projection, which alone may commit to it, unless another runner owns it
-- and that runner's lease has not ended. Time is the server's. Every claim has a higher fencing token than the one
-- before: requests under an earlier claim are refused.
--
-- A fencing token is the time of the claim in µs, or one more than the token before if the clock was put back. So a token
-- is not given again after the record of its claim is gone: after a failover that took it back, or a reset.
--
-- The build keeps the fingerprint of the code that began its rows, one for each Python. Where other code goes on with
-- the rows, the build keeps the position.
--
-- KEYS
--   1 projection   build (the live one), candidate
--   2 build        checkpoint (position, id), lease (owner, token, lease, lasts, where), kind, state, seen, generation,
--                    ahead, resets, rows (how many the view has: 0 before the first event), code:<python> (a
--                    fingerprint), mixed (the position where other code went on)
--   3 projections  the names of all projections
--   4 meta         epoch of the store, floor, format
--
-- ARGV
--   1 owner, a random id; 2 where it runs, for people; 3 lease in ms; 4 epoch of the store; 5 projection name;
--   6 build, 7 'live' or 'candidate': what the build is expected to be, 8 kind ('projection' or 'reactor');
--   9 position, 10 id to begin with if there is no checkpoint,
--   11 which builds may be claimed: '' one that has not stopped by a failure, 'also' every one, 'only' one that has
--   stopped by a failure; 'look': none, the reply says what a claim would find;
--   12 Python, 13 fingerprint of the caller's code ("" = none)
--
-- Replies
--   {"ok", position, id, fencing token, generation, ahead, resets, token before, mixed, where, ms}: position and id are
--     the checkpoint, generation counts how often parked rows were set free, ahead is the caller's own data, resets
--     counts resets of the build ('new': there was no record of it), token before is that of the claim before ('0':
--     there was none), mixed is "" if one code made all rows, where and ms tell of another owner that was silent until
--     its lease had ended ("" = there was none)
--   {"held", owner, where, ms left}: another runner owns the build
--   {"stopped"}: the build has stopped by a failure; {"free"}: the build has no owner, and was not claimed
--   {"changed"}: the build is not what it is expected to be; {"trimmed", floor}: a new build would begin below the floor
--   {"replaced"}: the store has another epoch

local projection, build = KEYS[1], KEYS[2]
local owner, lease, role, which = ARGV[1], ARGV[3], ARGV[7], ARGV[11]

if call('HGET', KEYS[4], 'epoch') ~= ARGV[4] then return {'replaced'} end
local live = call('HGET', projection, 'build')
if role == 'live' then
  if live and live ~= ARGV[6] then return {'changed'} end
elseif call('HGET', projection, 'candidate') ~= ARGV[6] then
  return {'changed'}
end

local now = server_time()
local stored = call('HMGET', build, 'owner', 'lease', 'where', 'state', 'lasts', 'seen')
local left = whole_number(stored[2], build, 'lease') - now
local where, silent = '', 0 -- of an owner that has not given its lease back
if stored[1] and stored[1] ~= owner and stored[6] then
  where, silent = stored[3] or '', math.max(0, now - whole_number(stored[6], build, 'seen')) / 1000
end
local lasts = whole_number(stored[5] or lease, build, 'lasts') * 1000
if left > lasts then -- the clock was put back: a runner that died before that would keep the build while the clock lags
  left = lasts
  call('HSET', build, 'lease', int(now + lasts))
end
if stored[1] and stored[1] ~= owner and left > 0 then
  return {'held', stored[1], stored[3] or '', math.ceil(left / 1000)}
end
if stored[4] == 'stopped' and (which == '' or which == 'look') then return {'stopped'} end
if which == 'look' or which == 'only' and stored[4] ~= 'stopped' then return {'free'} end

local new = call('EXISTS', build) == 0
local floor = call('HGET', KEYS[4], 'floor') or '0'
if new and tonumber(ARGV[9]) < whole_number(floor, KEYS[4], 'floor') then return {'trimmed', floor} end
local kept = call('HMGET', build, 'position', 'id', 'generation', 'ahead', 'resets', 'token')
local before = kept[6] or '0'
local token = int(math.max(whole_number(before, build, 'token') + 1, now))
for i, field in pairs({[1] = 'position', [3] = 'generation', [5] = 'resets'}) do whole_number(kept[i], build, field) end
call('SISMEMBER', KEYS[3], ARGV[5]) -- a set of another type shows before the first write
if not live then call('HSET', projection, 'build', ARGV[6]) end
call('SADD', KEYS[3], ARGV[5])
call('HSET', build, 'owner', owner, 'where', ARGV[2], 'lease', int(now + lease * 1000), 'lasts', lease, 'kind', ARGV[8],
  'token', token)
local position, id = kept[1] or '0', kept[2] or ''
if not kept[1] and call('HGET', KEYS[4], 'format') ~= '1' then call('HSET', build, 'rows', '0') end
if new and ARGV[9] ~= '0' then
  position, id = ARGV[9], ARGV[10]
  call('HSET', build, 'position', position, 'id', id)
end
if ARGV[13] ~= '' then
  local code = call('HGET', build, 'code:' .. ARGV[12])
  if not code or position == '0' then
    call('HSET', build, 'code:' .. ARGV[12], ARGV[13])
  elseif code ~= ARGV[13] and not call('HGET', build, 'mixed') then
    call('HSET', build, 'mixed', position)
  end
end
return {'ok', position, id, token, kept[3] or '0', kept[4] or '', new and 'new' or kept[5] or '0', before,
  call('HGET', build, 'mixed') or '', where, int(silent)}
