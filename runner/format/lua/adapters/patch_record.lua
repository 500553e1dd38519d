-- patch_record(field, changes, initial, token) -> {"ok" | "absent"}
--
-- Changes a record: a flat JSON object that is the value of a field of a hash. A run that is sent again changes nothing
-- more, as long as no other call came between.
--
-- KEYS
--   1 records  by field: the record
--
-- ARGV
--   1 field
--   2 changes: a JSON object, whose members replace those of the record
--   3 initial: what a record begins as; "" = only one that is there is changed
--   4 token of this call, where the record counts its changes in "count"; "" = it does not
--
-- Replies
--   {"ok"}; {"absent"}: there is no such record, and nothing was changed

local records, field, initial, token = KEYS[1], ARGV[1], ARGV[3], ARGV[4]

local stored = call('HGET', records, field)
if not stored and initial == '' then return {'absent'} end
local record = cjson.decode(stored or initial)
for name, value in pairs(cjson.decode(ARGV[2])) do record[name] = value end
if token ~= '' and record.call ~= token then
  record.count = (record.count or 0) + 1
  record.call = token
end
call('HSET', records, field, cjson.encode(record))
return {'ok'}
