-- append(mode, epoch, bookmark, run id, expected versions and envelopes) -> a verdict for each group
--
-- Appends groups of events, each to one stream of this partition. Mode "all": everything or nothing, checked before the
-- first write, because scripts do not roll back; groups of one stream need not be neighbours, and each expects the
-- version that the group before it leaves. Mode "each": every group stands alone, in order, as if it were an append of
-- its own.
--
-- KEYS
--   1 log        every event, entry ID <position>-<number>
--   2 meta       epoch of the store; floor: how many entries were trimmed from the start of the log; restoring
--   3 bookmarks  by name: "<position> <run id of the call that set it>"
--   4 recent:0   the ids of the last events, by stream key and id: "<position>-<number>";
--   5 recent:1     the two generations take turns every WINDOW positions
--   6 new        exists only inside this script: where a new index is made before it is copied into its place
--   7 run        the refusals of this call, for its own repetition; expires after ten minutes
--   8 … streams  the index of each group's stream, entry ID <number>-<position>
--
-- ARGV
--   1 mode, 2 epoch, 3 name of a bookmark ("" = none), 4 its new position, 5 run id: a random number that tells this
--   call, with its repetitions, from any other; needed with a bookmark and in mode "each"; 6 count of groups,
--   then for each group: expected version (a number, "any" or "exists"), count of events, the envelopes
--
-- Replies
--   mode "all": {"ok", verdict, verdict, …}, {"refused", number of the group, verdict},
--     {"bookmark", its position}: the bookmark would not move forward
--   mode "each": {"ok", followed by the four parts of each verdict, flat}
--   either: {"replaced"}: the store has another epoch; {"corrupt", last position, length, floor}: entries are missing
--     {"restoring"}: events are put in from elsewhere, see `restore`
--   verdict: {"ok" | "duplicate", version, first position, last position},
--     {"wrong_version", actual version}, {"reused", how many of the ids are known},
--     {"scattered", count}: all ids are known, but not as neighbours in this order
--
-- Idempotence: an id identifies an event within its stream. A versioned append finds its own earlier run by the
-- ids at the numbers it would have taken, at any later time; an unversioned one within WINDOW positions at least,
-- however its events were appended. A repetition has the ids of neighbours in the stream, in their order.

local log, meta, bookmarks, new, refused = KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7]
local FIRST_STREAM = 8
local mode, epoch, bookmark, run_id = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local groups = tonumber(ARGV[6])
local FIRST_GROUP = 7
local RECENT = {KEYS[4], KEYS[5]}
local TAIL = 100 -- how many of a stream's last events are searched for the ids of a new append
local OK = {'ok'} -- the verdict of a check that found nothing

-- The event id of the log entry that an index entry, <number>-<position>, points to.
local function stored_id(index_id)
  local _, _, number, position = split(index_id)
  return event_at(log, position .. '-' .. number)
end

-- The position and number of a recent event. Earlier versions of this script kept the position only.
local function recent_place(stream, id)
  local member = stream .. id
  local place = placed[member] or call('HGET', RECENT[1], member) or call('HGET', RECENT[2], member)
  if not place then return end
  if string.find(place, '^%d+-%d+$') then return split(place) end
  if not string.find(place, '^%d+$') then no_number(RECENT[1], 'of an event id') end
  local entry = call('XRANGE', log, place, place)[1]
  return tonumber(place), entry and select(2, split(entry[1]))
end

local function is_unversioned(group)
  return group.expected == 'any' or group.expected == 'exists'
end

-- Have these ids been appended already, as neighbours in this order?
local function check_unversioned(group)
  local known, neighbours, first, final, number = 0, true, nil, nil, nil
  for i = group.from, group.to do
    local position, found = recent_place(group.key, event_id(ARGV[i]))
    if position then
      known = known + 1
      neighbours = neighbours and found and (known == 1 or found == number + 1)
      first, final, number = first or position, position, found
    end
  end
  if known == 0 then return OK end
  if known < group.count then return {'reused', known} end
  if not neighbours then return {'scattered', known} end
  return {'duplicate', number, first, final}
end

-- The version is not the expected one: are the events at these numbers the very ones of this append?
local function check_earlier_run(group)
  local from, to = int(group.expected + 1), int(group.expected + group.count)
  local entries = call('XRANGE', group.key, from, to)
  local known, first, final = 0, 0, 0
  for i, entry in ipairs(entries) do
    local _, position = split(entry[1])
    if stored_id(entry[1]) ~= event_id(ARGV[group.from + i - 1]) then break end
    known = known + 1
    if i == 1 then first = position end
    final = position
  end
  if known == 0 then return {'wrong_version', group.version} end
  if known < group.count then return {'reused', known} end
  return {'duplicate', group.expected + group.count, first, final}
end

-- The version is right: refuse ids that are among the last events of the stream.
local function check_tail(group, tail)
  if group.count == 0 or group.version == 0 then return OK end
  if group.count == 1 then
    if tail[1] and stored_id(tail[1][1]) == event_id(ARGV[group.from]) then return {'reused', 1} end
    return OK
  end
  local given = {}
  for i = group.from, group.to do given[event_id(ARGV[i])] = true end
  local known = 0
  for _, entry in ipairs(tail) do
    if given[stored_id(entry[1]) or ''] then known = known + 1 end
  end
  if known > 0 then return {'reused', known} end
  return OK
end

local position, floor, fault = log_end(log, meta, epoch)
if fault then return fault end

local written = {} -- the last group this script wrote to each stream

local function examine(group)
  local before = written[group.key]
  if before and group.count == 1 and tonumber(group.expected) == before.version then
    group.version = before.version
    if event_id(ARGV[group.from]) == event_id(ARGV[before.to]) then return {'reused', 1} end
    return OK
  end
  local tail = call('XREVRANGE', group.key, '+', '-', 'COUNT', math.max(1, math.min(group.count, TAIL)))
  local number, at = split(tail[1] and tail[1][1] or last_id(group.key))
  group.version = number
  if at > position then return {'corrupt', position, position - floor, floor} end
  if group.expected == 'exists' and group.version == 0 then return {'wrong_version', 0} end
  if is_unversioned(group) then return check_unversioned(group) end
  group.expected = tonumber(group.expected)
  if group.expected == group.version then return check_tail(group, tail) end
  if group.count == 0 or group.expected > group.version then return {'wrong_version', group.version} end
  return check_earlier_run(group)
end

local function check_rights(group)
  local key = group.key
  if group.version == 0 then
    check_right('copy', key, key)
    check_right('del', key)
  end
  check_right('hset', RECENT[1], key, key)
end

local function check(group)
  local verdict = examine(group)
  if verdict == OK and group.count > 0 and not written[group.key] then check_rights(group) end
  return verdict
end

local function write(group)
  if group.count == 0 then return {'ok', group.version, 0, 0} end
  local first, number = position + 1, group.version
  local index = number == 0 and new or group.key
  for i = group.from, group.to do
    position = position + 1
    number = number + 1
    local p, n = int(position), int(number)
    local place = p .. '-' .. n
    call('XADD', log, place, 'e', ARGV[i])
    call('XADD', index, n .. '-' .. p, '', '')
    place_id(RECENT, group.key, event_id(ARGV[i]), position, place)
  end
  if index == new then place_index(new, group.key) end
  group.version = number
  written[group.key] = group
  return {'ok', number, first, position}
end

local plan, next_group = {}, FIRST_GROUP
for g = 1, groups do
  local count, from = tonumber(ARGV[next_group + 1]), next_group + 2
  plan[g] = {key = KEYS[FIRST_STREAM + g - 1], expected = ARGV[next_group], count = count, from = from, to = from + count - 1}
  next_group = from + count
end

if mode == 'each' then
  -- A repetition of this very call gives the refusals of its first run: later groups may have made these groups fit.
  local reply, refusals, before = {'ok'}, {}, {}
  local noted = call('GET', refused) or ''
  for g, kind, number in string.gmatch(noted, '(%d+) (%S+) (%d+);') do before[tonumber(g)] = {kind, tonumber(number)} end
  for g, group in ipairs(plan) do
    local verdict = before[g] or check(group)
    if verdict[1] == 'corrupt' then
      write_ids(generation_of(RECENT, position))
      return verdict
    end
    if verdict[1] == 'ok' then
      verdict = write(group)
    elseif verdict[1] ~= 'duplicate' then
      refusals[#refusals + 1] = g .. ' ' .. verdict[1] .. ' ' .. int(verdict[2]) .. ';'
    end
    local at = 4 * g
    reply[at - 2], reply[at - 1], reply[at], reply[at + 1] = verdict[1], verdict[2], verdict[3] or 0, verdict[4] or 0
  end
  write_ids(generation_of(RECENT, position))
  if #refusals > 0 and noted == '' then
    call('SET', refused, table.concat(refusals), 'EX', 600)
  end
  return reply
end

-- A later group of the same stream: the verdict of the group before counts for it, too.
local function check_next(group, before)
  group.version, group.expected = before.version, tonumber(group.expected)
  if before.verdict == 'duplicate' then
    local verdict = check_earlier_run(group)
    return verdict[1] == 'wrong_version' and OK or verdict -- new events after known ones: refused below
  end
  group.version = before.version + before.count
  return check_tail(group, call('XREVRANGE', group.key, '+', '-', 'COUNT', math.min(group.count, TAIL)))
end

local duplicates, with_events, reply, planned = 0, 0, {'ok'}, {}
for g, group in ipairs(plan) do
  local before = planned[group.key]
  local verdict = before and check_next(group, before) or check(group)
  group.verdict = verdict[1]
  planned[group.key] = group
  if verdict[1] == 'corrupt' then return verdict end
  if verdict[1] ~= 'ok' and verdict[1] ~= 'duplicate' then return {'refused', g, verdict} end
  if verdict[1] == 'duplicate' then duplicates = duplicates + 1 end
  if group.count > 0 then with_events = with_events + 1 end
  reply[g + 1] = verdict
end
if duplicates > 0 and duplicates < with_events then
  for g, group in ipairs(plan) do
    if reply[g + 1][1] == 'duplicate' then return {'refused', g, {'reused', group.count}} end
  end
end
local repeated = duplicates > 0

if bookmark ~= '' then
  local target = ARGV[4]
  local stands, setter = string.match(call('HGET', bookmarks, bookmark) or '0 ', '^(%d+) (.*)$')
  if not stands then no_number(bookmarks, bookmark) end
  local moves, same_call = is_less(stands, target), stands == target and setter == run_id
  if not moves and not same_call and not (repeated and stands == target) then return {'bookmark', stands} end
  if same_call then repeated = true end
  if moves then call('HSET', bookmarks, bookmark, target .. ' ' .. run_id) end
end

if repeated then
  for g, group in ipairs(plan) do
    if reply[g + 1][1] == 'ok' then reply[g + 1] = {'duplicate', group.version, 0, 0} end
  end
  return reply
end
for g, group in ipairs(plan) do reply[g + 1] = write(group) end
write_ids(generation_of(RECENT, position))
return reply
