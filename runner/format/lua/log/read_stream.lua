-- read_stream(first, last, count, backwards, bytes) -> {"ok", log entry, log entry, …}
--
-- Resolves a page of a stream's index to the events themselves, on the server. Neighbours in the index that are
-- neighbours in the log too are read as one range. The page is bounded by the caller: by a count, and by bytes, which the
-- last event of the page may exceed. Ranges are short, so what is read and not used is little.
--
-- KEYS
--   1 log     every event, entry ID <position>-<number>
--   2 meta    floor: entries up to this position were trimmed
--   3 stream  the index, entry ID <number>-<position>
--
-- ARGV
--   1 first number, 2 last number ("+" = no limit), 3 count, 4 "1" to read from the last to the first, 5 bytes
--
-- Replies
--   {"ok", log entry, …}; backwards, a page ends before the first event that was trimmed
--   {"cut", log entry, …}: the page is as large as it may be, and has fewer events than were asked for
--   {"trimmed", floor}: an event of the page was trimmed; backwards, the first event of the page
--   {"missing", number, position}: an event is gone for another reason; position is 0 if the index lacks it, too

local log, meta, stream = KEYS[1], KEYS[2], KEYS[3]
local first, final, count, backwards, bytes = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
local LONGEST_RANGE = 8

local function read_floor()
  return whole_number(call('HGET', meta, 'floor'), meta, 'floor')
end

local index
if backwards then
  index = call('XREVRANGE', stream, final, first, 'COUNT', count)
else
  index = call('XRANGE', stream, first, final, 'COUNT', count)
end

-- Entries may be gone from the index itself: the stream has had an entry that should be at the edge of the page.
local edge = index[backwards and #index or 1]
local wanted = tonumber(first)
local short = #index == 0 or (not backwards or #index < tonumber(count)) and split(edge[1]) > wanted
if short and split(last_id(stream)) >= wanted then
  local floor = read_floor()
  if floor == 0 then return {'missing', wanted, 0} end
  if not backwards or #index == 0 then return {'trimmed', floor} end
end

local found = {}
for i, entry in ipairs(index) do
  local number, position, n, p = split(entry[1])
  found[i] = {number = number, position = position, n = n, p = p}
end

local function entry_id(place)
  return place.p .. '-' .. place.n
end

local reply = {'ok'}
local step = backwards and -1 or 1
local from = 1
while from <= #found do
  local to = from
  while to < #found and to - from + 1 < LONGEST_RANGE and found[to + 1].position == found[to].position + step
    and found[to + 1].number == found[to].number + step do
    to = to + 1
  end
  local start = entry_id(found[from])
  local entries = call(backwards and 'XREVRANGE' or 'XRANGE', log, start, to == from and start or entry_id(found[to]))
  if #entries ~= to - from + 1 then
    local floor = read_floor()
    if found[from].position <= floor or found[to].position <= floor then
      if not backwards or #reply + #entries == 1 then return {'trimmed', floor} end
      for _, entry in ipairs(entries) do reply[#reply + 1] = entry end
      return reply
    end
    return {'missing', found[from].number, found[from].position}
  end
  for place, entry in ipairs(entries) do
    reply[#reply + 1] = entry
    bytes = bytes - #(entry[2][2] or '')
    if bytes <= 0 and from + place - 1 < #found then
      local cut = {'cut'}
      for i = 2, #reply do cut[i] = reply[i] end
      return cut
    end
  end
  from = to + 1
end
return reply
