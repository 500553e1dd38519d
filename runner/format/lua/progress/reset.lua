-- reset(projection) -> {"ok", position, rows}, {"trimmed", floor} or {"changed"}
--
-- Forgets a projection: its views, its checkpoints, what it set aside. Whoever drives it is fenced off by that, and may
-- begin at position 0. With dry run it only says what would go.
--
-- KEYS
--   1 projection, 2 projections, 3 meta (floor: what was trimmed cannot be projected again), 4 build, 5 view (both of
--   the live build), 6 … its parked and skipped events, then the four keys of each other build
--
-- ARGV
--   1 projection name, 2 the live build, 3 the one before, 4 the candidate ("" = none), 5 "1" for a dry run

local call = redis.call
local stored = call('HMGET', KEYS[1], 'build', 'previous', 'candidate')
for i = 1, 3 do
  if (stored[i] or '') ~= ARGV[1 + i] then return {'changed'} end
end
local floor = call('HGET', KEYS[3], 'floor') or '0'
if floor ~= '0' then return {'trimmed', floor} end
local position, rows = call('HGET', KEYS[4], 'position') or '0', call('HLEN', KEYS[5])
if ARGV[5] ~= '1' then
  local resets = {}
  for i = 4, #KEYS, 4 do resets[i] = string.format('%.0f', (call('HGET', KEYS[i], 'resets') or 0) + 1) end
  for i = 4, #KEYS do call('UNLINK', KEYS[i]) end
  call('UNLINK', KEYS[1])
  call('SREM', KEYS[2], ARGV[1])
  for i, count in pairs(resets) do -- what stays, so that whoever drove the build knows that it was reset
    call('HSET', KEYS[i], 'state', 'idle', 'resets', count)
  end
end
return {'ok', position, rows}
