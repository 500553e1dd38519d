-- reset(projection) -> {"ok", position, rows}
--
-- Removes a projection's views, checkpoints, parked events and records of skipped events. That fences off the owners of
-- its builds, which may begin at position 0. A dry run only tells what would be removed.
--
-- KEYS
--   1 projection, build (the live one), previous, candidate
--   2 projections, the names of all projections
--   3 meta, floor: events that were trimmed cannot be projected again
--   4 build, position, state, resets; 5 view; both of the live build; 6 … its parked and skipped events, then the four
--   keys of each other build
--
-- ARGV
--   1 projection name, 2 the live build, 3 the previous build, 4 the candidate ("" = none), 5 "1" for a dry run
--
-- Replies
--   {"ok", position, rows}: the position of the live build, and how many rows it had
--   {"trimmed", floor}: the first events were trimmed; nothing was done
--   {"changed"}: the builds are not those that the caller names; nothing was done

local stored = call('HMGET', KEYS[1], 'build', 'previous', 'candidate')
for i = 1, 3 do
  if (stored[i] or '') ~= ARGV[1 + i] then return {'changed'} end
end
local floor = call('HGET', KEYS[3], 'floor') or '0'
if floor ~= '0' then return {'trimmed', floor} end
local function lenient(...) -- a reset removes what is damaged, too
  local found = redis.pcall(...)
  return type(found) ~= 'table' and string.find(found or '', '^%d+$') and tonumber(found) or 0
end
local position, rows = int(lenient('HGET', KEYS[4], 'position')), lenient('HLEN', KEYS[5])
if ARGV[5] ~= '1' then
  local resets = {}
  for i = 4, #KEYS, 4 do resets[i] = int(lenient('HGET', KEYS[i], 'resets') + 1) end
  for i = 4, #KEYS do call('UNLINK', KEYS[i]) end
  call('UNLINK', KEYS[1])
  call('SREM', KEYS[2], ARGV[1])
  for i, count in pairs(resets) do -- these fields stay, so that the owner of the build notices the reset
    call('HSET', KEYS[i], 'state', 'idle', 'resets', count)
  end
end
return {'ok', position, rows}
