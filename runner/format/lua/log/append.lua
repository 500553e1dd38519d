-- append(mode, epoch, bookmark, expected versions and envelopes) -> a verdict for each group
--
-- Appends groups of events, each to one stream of this partition. Mode "all": everything or nothing, checked
-- before the first write, because scripts do not roll back; groups of one stream may stand apart, and each expects
-- the version that the one before it leaves. Mode "each": every group stands alone, in order, as if it were an append
-- of its own.
--
-- KEYS
--   1 log          every event, entry ID <position>-<number>
--   2 meta         epoch of the store; floor: how many entries were trimmed from the start of the log
--   3 bookmarks    by name: "<position> <token of the call that set it>"
--   4 recent:0     ids appended without a version, by stream key and id, with their position;
--   5 recent:1       the two generations take turns every WINDOW positions
--   6 new          exists only inside this script: where a new index is made before it is copied, which drops
--                    the 4 KiB that Redis sets aside for the first node of a stream
--   7 run          what this call was refused, for its own repetition; expires after ten minutes
--   8 … streams    the index of each group's stream, entry ID <number>-<position>
--   and behind them, in mode "all", where ids are to be new in the whole store: ids, see `index_ids`
--
-- ARGV
--   1 mode, 2 epoch, 3 bookmark name ("" = none), 4 its new position, 5 token of this call, 6 count of groups,
--   then for each group: expected version (a number, "any" or "exists"), count of events, the envelopes
--
-- Replies
--   mode "all": {"ok", verdict, verdict, …} or {"refused", number of the group, verdict}
--   mode "each": {"ok", followed by the four parts of each verdict, flat}
--   verdict: {"ok" | "duplicate", version, first position, last position},
--            {"wrong_version", actual}, {"reused", how many of the ids are known},
--            {"known", which event of the group, its position}
--   {"bookmark", where it stands}, {"replaced"}, {"corrupt", last position, length, floor}
--   {"unindexed", up to where the ids are complete, last position}: nothing was done
--
-- Idempotence: an id identifies an event within its stream. A versioned append finds its own earlier run by the
-- ids at the numbers it would have taken, at any later time; an unversioned one within WINDOW positions at least.
-- With the key ids there is none: an id that the store has is refused, whoever appends it again. Only this very call,
-- sent once more, finds its token beside the id of its first event, and is answered as it was.

local call = redis.call
local log, meta, bookmarks, new, run = KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7]
local BEFORE_STREAMS = 7
local mode, epoch, bookmark, token = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local groups = tonumber(ARGV[6])
local ids = mode == 'all' and KEYS[BEFORE_STREAMS + groups + 1]
local WINDOW = 10000
local TAIL = 100 -- how many of a stream's last events are searched for the ids of a new append
local OK = {'ok'} -- the verdict of a check that found nothing
local ID_FIRST, ID_LAST = 4, 19 -- where the envelope holds the event id

local function int(number)
  return string.format('%.0f', number)
end

local function split(id)
  local high, low = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(high), tonumber(low)
end

-- The two halves of the last ID a stream has had. It outlives its entry, so a trimmed stream keeps its version, and
-- a log whose last entry was deleted is seen to be too short.
local function last(key)
  if call('EXISTS', key) == 0 then return 0, 0 end
  local info = call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return split(info[i + 1]) end
  end
end

local function event_id(envelope)
  return string.sub(envelope, ID_FIRST, ID_LAST)
end

-- The event id of the log entry that an index entry, <number>-<position>, points to.
local function stored_id(index_id)
  local number, position = string.match(index_id, '^(%d+)-(%d+)$')
  local id = position .. '-' .. number
  local entry = call('XRANGE', log, id, id)[1]
  return entry and event_id(entry[2][2])
end

local function recent(position)
  return KEYS[4 + math.floor(position / WINDOW) % 2]
end

local function recent_position(member)
  return tonumber(call('HGET', KEYS[4], member) or call('HGET', KEYS[5], member) or nil)
end

-- Has an unversioned append with these ids run already?
local function check_unversioned(group)
  local known, first, final = 0, nil, 0
  for i = group.from, group.to do
    local position = recent_position(group.key .. event_id(ARGV[i]))
    if position then
      known = known + 1
      first = math.min(first or position, position)
      final = math.max(final, position)
    end
  end
  if known == 0 then return OK end
  if known < group.count then return {'reused', known} end
  local entry = call('XRANGE', log, int(final), int(final))[1]
  local number = group.version -- where the event was trimmed, its number is not known any more
  if entry then number = select(2, split(entry[1])) end
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

-- The index of ids is complete, so it knows whether an id is new in the store.
local function check_ids(group)
  local version, expected = group.version, tonumber(group.expected)
  local first, number, caller
  if group.count > 0 then
    local found = call('HGET', ids, event_id(ARGV[group.from])) or ''
    first, number, caller = string.match(found, '^(%d+)-(%d+) (.+)$')
  end
  if caller == token then
    return {'duplicate', number + group.count - 1, tonumber(first), first + group.count - 1}
  end
  if expected and expected ~= version then return {'wrong_version', version} end
  for i = group.from, group.to do
    local found = call('HGET', ids, event_id(ARGV[i]))
    if found then return {'known', i - group.from + 1, tonumber(string.match(found, '^%d+'))} end
  end
  return OK
end

local position, length = 0, 0
if call('EXISTS', log) == 1 then
  local info = call('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1] end
    if info[i] == 'last-generated-id' then position = split(info[i + 1]) end
  end
end

local facts = call('HMGET', meta, 'epoch', 'floor')
if facts[1] ~= epoch then return {'replaced'} end
local floor = tonumber(facts[2] or 0)
if length + floor ~= position then return {'corrupt', position, length, floor} end

if ids then
  local index = call('HMGET', ids, 'epoch', 'upto')
  local upto = index[1] == epoch and tonumber(index[2]) or 0
  if upto ~= position or index[1] and index[1] ~= epoch then return {'unindexed', upto, position} end
end

local written = {} -- the last group this script wrote to each stream

local function examine(group)
  local before = written[group.key]
  if before and group.count == 1 and tonumber(group.expected) == before.version then
    group.version = before.version
    if event_id(ARGV[group.from]) == event_id(ARGV[before.to]) then return {'reused', 1} end
    return OK
  end
  local tail = call('XREVRANGE', group.key, '+', '-', 'COUNT', math.max(1, math.min(group.count, TAIL)))
  local number, at = 0, 0
  if tail[1] then number, at = split(tail[1][1]) else number, at = last(group.key) end
  group.version = number
  if at > position then return {'corrupt', position, length, floor} end
  if group.expected == 'exists' and group.version == 0 then return {'wrong_version', 0} end
  if ids then return check_ids(group) end
  if group.expected == 'any' or group.expected == 'exists' then return check_unversioned(group) end
  group.expected = tonumber(group.expected)
  if group.expected == group.version then return check_tail(group, tail) end
  if group.count == 0 or group.expected > group.version then return {'wrong_version', group.version} end
  return check_earlier_run(group)
end

-- Scripts do not roll back, so what is not allowed must show before the first write, which is an XADD.
local function check_rights(group)
  if not redis.acl_check_cmd then return end
  local wanted = group.version == 0 and {'copy', 'del'} or {}
  if not ids and (group.expected == 'any' or group.expected == 'exists') then wanted[#wanted + 1] = 'hset' end
  for _, command in ipairs(wanted) do
    if not redis.acl_check_cmd(command, group.key, group.key, group.key, group.key) then
      error({err = 'NOPERM this user has no permissions to run the ' .. command .. ' command'})
    end
  end
  if ids and not redis.acl_check_cmd('hset', ids, 'upto', '0') then
    error({err = 'NOPERM this user has no permissions to run the hset command'})
  end
end

local function check(group)
  local verdict = examine(group)
  if verdict == OK and group.count > 0 and not written[group.key] then check_rights(group) end
  return verdict
end

local function write(group)
  if group.count == 0 then return {'ok', group.version, 0, 0} end
  local first, number = position + 1, group.version
  local unversioned = not ids and (group.expected == 'any' or group.expected == 'exists')
  local index = number == 0 and new or group.key
  for i = group.from, group.to do
    position = position + 1
    number = number + 1
    local p, n = int(position), int(number)
    call('XADD', log, p .. '-' .. n, 'e', ARGV[i])
    call('XADD', index, n .. '-' .. p, '', '')
    if position % WINDOW == 0 then call('DEL', recent(position)) end
    if unversioned then call('HSET', recent(position), group.key .. event_id(ARGV[i]), p) end
    if ids then
      local caller = i == group.from and ' ' .. token or ''
      call('HSET', ids, event_id(ARGV[i]), p .. '-' .. n .. caller, 'upto', p, 'epoch', epoch)
    end
  end
  if index == new then
    call('COPY', new, group.key, 'REPLACE')
    call('DEL', new)
  end
  group.version = number
  written[group.key] = group
  return {'ok', number, first, position}
end

local plan, at = {}, 7
for g = 1, groups do
  local count = tonumber(ARGV[at + 1])
  plan[g] = {key = KEYS[BEFORE_STREAMS + g], expected = ARGV[at], count = count, from = at + 2, to = at + 1 + count}
  at = at + 2 + count
end

if mode == 'each' then
  -- A repetition of this very call answers its refusals as the first run did: later groups may have made them fit.
  local reply, refusals, before = {'ok'}, {}, {}
  local noted = call('GET', run) or ''
  for g, kind, number in string.gmatch(noted, '(%d+) (%S+) (%d+);') do before[tonumber(g)] = {kind, tonumber(number)} end
  for g, group in ipairs(plan) do
    local verdict = before[g] or check(group)
    if verdict[1] == 'corrupt' then return verdict end
    if verdict[1] == 'ok' then
      verdict = write(group)
    elseif verdict[1] ~= 'duplicate' then
      refusals[#refusals + 1] = g .. ' ' .. verdict[1] .. ' ' .. int(verdict[2]) .. ';'
    end
    local at = 4 * g
    reply[at - 2], reply[at - 1], reply[at], reply[at + 1] = verdict[1], verdict[2], verdict[3] or 0, verdict[4] or 0
  end
  if #refusals > 0 and noted == '' then
    call('SET', run, table.concat(refusals), 'EX', 600)
  end
  return reply
end

-- A later group of the same stream: what was found out about the first one holds for it, too.
local function check_next(group, before)
  group.version, group.expected = before.version, tonumber(group.expected)
  if before.verdict == 'duplicate' then
    local verdict = check_earlier_run(group)
    return verdict[1] == 'wrong_version' and OK or verdict -- not known, beside one that is: refused below
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
  local target = tonumber(ARGV[4])
  local stands, setter = string.match(call('HGET', bookmarks, bookmark) or '0 ', '^(%d+) (.*)$')
  stands = tonumber(stands)
  local same_call = stands == target and setter == token
  if target <= stands and not same_call and not (repeated and stands == target) then
    return {'bookmark', stands}
  end
  if same_call then repeated = true end
  if target > stands then call('HSET', bookmarks, bookmark, int(target) .. ' ' .. token) end
end

if repeated then
  for g, group in ipairs(plan) do
    if reply[g + 1][1] == 'ok' then reply[g + 1] = {'duplicate', group.version, 0, 0} end
  end
  return reply
end
for g, group in ipairs(plan) do reply[g + 1] = write(group) end
return reply
