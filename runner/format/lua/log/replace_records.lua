-- replace_records(epoch, type of the keys, records before and after) -> {"ok", how many were written}
--
-- Writes small records beside the log: all of them, or none if one that their writer has read is stored no longer. Each
-- record begins with a random number, so its first bytes tell it from every other record. A record that is stored as
-- this call writes it means that the call ran before: the record stays, and counts as right. So a call may be sent
-- again, and a late call changes nothing.
--
-- A record is the value of a string, of a field of a hash, or the member of a sorted set that has a score.
--
-- KEYS
--   1 meta  epoch of the store
--   2 … for each record the key that it is in; a key may be named several times
--
-- ARGV
--   1 epoch, 2 type of the keys: 'string', 'hash' or 'zset',
--   then for each record: its field or score ("" in a string), the first bytes of the record before ("" = there was
--   none), the record after ("" = it is removed)
--
-- Replies
--   {"ok", how many were written}: fewer than all in a repetition, or if a record to remove was gone already
--   {"moved", number of a record, the record in its place ("" = none)}: nothing was written
--   {"replaced"}: the store has another epoch

local meta, epoch, type_of_keys = KEYS[1], ARGV[1], ARGV[2]
local FIRST = 3

local function read(key, place)
  if type_of_keys == 'zset' then return call('ZRANGEBYSCORE', key, place, place)[1] or '' end
  if type_of_keys == 'hash' then return call('HGET', key, place) or '' end
  return call('GET', key) or ''
end

local function write(record)
  local key, place, after = record.key, record.place, record.after
  if type_of_keys == 'zset' then
    if record.found ~= '' then call('ZREM', key, record.found) end
    if after ~= '' then call('ZADD', key, place, after) end
  elseif type_of_keys == 'hash' then
    if after == '' then call('HDEL', key, place) else call('HSET', key, place, after) end
  else
    if after == '' then call('DEL', key) else call('SET', key, after) end
  end
end

local function begins_with(found, before)
  if before == '' then return found == '' end
  return string.sub(found, 1, #before) == before
end

if call('HGET', meta, 'epoch') ~= epoch then return {'replaced'} end
local records = {}
for i = 1, #KEYS - 1 do
  local key, at = KEYS[i + 1], FIRST + 3 * (i - 1)
  local place, before, after = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local found = read(key, place)
  if found ~= after and not begins_with(found, before) then return {'moved', i, found} end
  records[i] = {key = key, place = place, found = found, after = after}
end
local written = 0
for _, record in ipairs(records) do
  if record.found ~= record.after then
    write(record)
    written = written + 1
  end
end
return {'ok', written}
