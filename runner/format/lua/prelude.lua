-- The prelude: definitions that several scripts share. It is not a script by itself.
--
-- `runner.format.scripts.Script` puts before a script the definitions that the script names, and those that these name.
-- A definition begins with `local` at the beginning of a line, ends at an empty line, and names only definitions above
-- it. All of them are local, since Redis forbids globals.
--
-- A script gets only what it names because each function costs a run about 0.06 µs when it is defined, called or not.
-- The length of a script costs a run nothing: the server compiles it once. The lines of an error message are those of
-- the joined text, `load(name).source`.

local call = redis.call

-- Where an envelope holds the event id: at its bytes 4 to 19.
local ID_FIRST, ID_LAST = 4, 19

-- How many arguments one command gets; unpack fails near 8,000.
local CHUNK = 1000

-- How many positions the ids of one generation span.
local WINDOW = 10000

-- About how many records of skipped events are kept.
local SKIPPED_KEPT = 10000

-- A whole number as text; tostring(1e15) is "1e+15".
local function int(number)
  return string.format('%.0f', number)
end

-- Whether a whole number is less than another one, both as text: what a caller may choose freely, such as the position
-- of a bookmark. Lua's numbers are exact up to 2^53 only, which positions, numbers and times in µs stay below.
local function is_less(number, other)
  if #number ~= #other then return #number < #other end
  return number < other
end

-- Raises the error of a field that holds no number. It must show before the first write, since scripts do not roll back.
local function no_number(key, field)
  error('DAMAGED ' .. key .. " is damaged: its field '" .. field .. "' holds text, which is no number", 0)
end

-- A number of a stored field, 0 where there is no field. What is no number is an error of that field.
local function whole_number(stored, key, field)
  if not stored then return 0 end
  if #stored > 16 or not string.find(stored, '^%d+$') then no_number(key, field) end
  return tonumber(stored)
end

-- The two halves of an entry ID, <high>-<low>: as numbers, then as text.
local function split(id)
  local high, low = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(high), tonumber(low), high, low
end

-- The last ID that a stream has had, and how many entries it has; "0-0" where there is no stream. The ID outlives its
-- entry: a trimmed index keeps its version, and a log whose last entry was deleted is seen to be too short.
local function last_id(key)
  if call('EXISTS', key) == 0 then return '0-0', 0 end
  local info, id, length = call('XINFO', 'STREAM', key), '0-0', 0
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1] end
    if info[i] == 'last-generated-id' then id = info[i + 1] end
  end
  return id, length
end

-- The last position of the log, and its floor: how many entries were trimmed from its start. Third, if nothing may be
-- done, the reply that says why: the store is another one, it is being restored, or entries of the log are missing.
local function log_end(log, meta, epoch)
  local metadata = call('HMGET', meta, 'epoch', 'floor', 'restoring')
  if metadata[1] ~= epoch then return 0, 0, {'replaced'} end
  if metadata[3] then return 0, 0, {'restoring'} end
  local id, length = last_id(log)
  local position, floor = split(id), whole_number(metadata[2], meta, 'floor')
  if length + floor ~= position then return position, floor, {'corrupt', position, length, floor} end
  return position, floor
end

-- Puts the index of a new stream into its place. A copy does not have the 4 KiB that Redis sets aside for the first
-- node of a stream.
local function place_index(new, stream)
  call('COPY', new, stream, 'REPLACE')
  call('DEL', new)
end

-- The event id that an envelope holds; shorter than 16 bytes if it is no envelope.
local function event_id(envelope)
  return string.sub(envelope, ID_FIRST, ID_LAST)
end

-- The id of the event at a position of the log, or with an entry ID; nil if there is none.
local function event_at(log, position)
  local entry = call('XRANGE', log, position, position)[1]
  return entry and event_id(entry[2][2])
end

-- Recent ids: two hashes, by stream key and id, of the places <position>-<number> of the last events, which take turns
-- every WINDOW positions. `placed` has the ids that this run has placed, `unwritten` those of them that are not in their
-- hash yet: they are written together, since each command costs more than its fields.
local placed, unwritten = {}, {}

-- Writes the ids to the hash of their generation.
local function write_ids(generation)
  for at = 1, #unwritten, CHUNK do
    call('HSET', generation, unpack(unwritten, at, math.min(at + CHUNK - 1, #unwritten)))
  end
  unwritten = {}
end

-- Which of the two hashes has the ids of a position.
local function generation_of(generations, position)
  return generations[1 + math.floor(position / WINDOW) % 2]
end

-- Puts an id among the recent ones; `write_ids` must follow. The hash whose turn begins is emptied.
local function place_id(generations, stream, id, position, place)
  if position % WINDOW == 0 then
    write_ids(generation_of(generations, position - 1))
    call('DEL', generation_of(generations, position))
  end
  placed[stream .. id] = place
  unwritten[#unwritten + 1] = stream .. id
  unwritten[#unwritten + 1] = place
end

-- The server's time in µs.
local function server_time()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Raises an error if the caller may not run a command with these arguments. Scripts do not roll back, so a missing
-- right must show before the first write. Servers without access lists in scripts allow everything.
local function check_right(command, ...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, ...) then
    error({err = 'NOPERM this user has no permissions to run the ' .. command .. ' command'})
  end
end

-- Runs a command on a key with the arguments ARGV[from] to ARGV[to], `width` of which belong together. Returns the sum
-- of the replies: how many fields HSET has made, or HDEL removed.
local function call_in_chunks(command, key, from, to, width)
  local step, sum = CHUNK * width, 0
  for at = from, to, step do
    sum = sum + call(command, key, unpack(ARGV, at, math.min(at + step - 1, to)))
  end
  return sum
end

-- Keeps the record of an event that was skipped, and drops old records if there are too many.
local function note_skipped(skipped, record)
  call('XADD', skipped, 'MAXLEN', '~', SKIPPED_KEPT, '*', 'e', record)
end
