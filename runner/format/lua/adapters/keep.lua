-- keep(epoch, versions and contents) -> whether all of them were kept
--
-- Keeps contents under their versions, each in one of some sorted sets: all of them, or nothing where a version holds
-- another content already. A call that is repeated finds its own contents there, and is answered as it was before.
--
-- KEYS
--   1 meta    epoch of the store
--   2 … sets  for each content its set, scored by version; a set may be there several times
--
-- ARGV
--   1 epoch, then for each content: its version, the content
--
-- Replies
--   {"ok", 0}, {"taken", number of the first content whose version is taken}, {"replaced", 0}

local meta = KEYS[1]

if call('HGET', meta, 'epoch') ~= ARGV[1] then return {'replaced', 0} end
for i = 2, #KEYS do
  local version = ARGV[2 * i - 2]
  local found = call('ZRANGEBYSCORE', KEYS[i], version, version)[1]
  if found and found ~= ARGV[2 * i - 1] then return {'taken', i - 1} end
end
for i = 2, #KEYS do call('ZADD', KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1]) end
return {'ok', 0}
