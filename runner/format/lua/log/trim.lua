-- trim(epoch, floor, new floor, projections, streams) -> {"ok", floor, limit, what holds the rest}
--
-- Removes the first events of the log for good: those after the floor up to the new floor, and their entries in the
-- indexes of their streams. One run removes a portion; after each run the store is sound.
--
-- Invariant: a build finds the event of its checkpoint, and all events after it. So the floor stays below the
-- checkpoint of each live build and candidate, below each of their parked events, and below the last event, which keeps
-- the end of the log. The script reads these itself, in the same step: a projection that was started or went back since
-- the caller looked shows in "changed" or in the limit. A previous build does not hold the floor down. A run that is
-- sent again, or comes late, finds another floor than it names and removes nothing.
--
-- KEYS
--   1 log          every event, entry ID <position>-<number>
--   2 meta         epoch of the store; floor: the last position that is gone; restoring
--   3 projections  the names of all projections
--   4 … for each projection: its record (build, candidate), then for each of these two builds that exists:
--     its record (position), its parked events; after all projections, the indexes of the streams of the portion
--
-- ARGV
--   1 epoch; 2 the floor as it was; 3 the new floor (if not above the old one, nothing is removed); 4 count of
--   projections, then for each: its name, live build, candidate ("" = none); then for each index the last number to
--   remove
--
-- Replies
--   {"ok", floor, limit, what, projection, build, position, last position}: limit is how high the floor may rise; what
--     sets the limit: 'end', the 'checkpoint' or a 'parked' event of a build, at position
--   {"changed"}: the projections or builds are not those that the caller names
--   {"replaced"}: the store has another epoch; {"corrupt", last position, length, floor}: entries are missing
--   {"restoring"}: events are put in from elsewhere, see `restore`

local log, meta, projections = KEYS[1], KEYS[2], KEYS[3]
local before, after, count = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local last, floor, fault = log_end(log, meta, ARGV[1])
if fault then return fault end

local limit, holder = last, nil
local function hold(position, what, name, build)
  if position <= limit then
    limit = math.max(0, position - 1)
    holder = {what = what, name = name, build = build, position = position}
  end
end
hold(last, 'end', '', '')

if call('SCARD', projections) ~= count then return {'changed'} end
local key, arg = 4, 5
for _ = 1, count do
  local name = ARGV[arg]
  local stored = call('HMGET', KEYS[key], 'build', 'candidate')
  if call('SISMEMBER', projections, name) == 0 then return {'changed'} end
  key = key + 1
  for i = 1, 2 do
    local build = ARGV[arg + i]
    if (stored[i] or '') ~= build then return {'changed'} end
    if build ~= '' then
      hold(whole_number(call('HGET', KEYS[key], 'position'), KEYS[key], 'position'), 'checkpoint', name, build)
      for _, position in ipairs(call('HKEYS', KEYS[key + 1])) do
        hold(whole_number(position, KEYS[key + 1], position), 'parked', name, build)
      end
      key = key + 2
    elseif i == 1 then
      hold(0, 'checkpoint', name, '')
    end
  end
  arg = arg + 3
end

if before == floor and after > floor and after <= limit then
  check_right('hset', meta, 'floor', '0')
  check_right('xtrim', log, 'MINID', '0')
  for i = key, #KEYS do check_right('xtrim', KEYS[i], 'MINID', '0') end
  call('XTRIM', log, 'MINID', int(after + 1))
  call('HSET', meta, 'floor', int(after))
  for i = key, #KEYS do call('XTRIM', KEYS[i], 'MINID', int(ARGV[arg + i - key] + 1)) end
  floor = after
end
return {'ok', floor, limit, holder.what, holder.name, holder.build, holder.position, last}
