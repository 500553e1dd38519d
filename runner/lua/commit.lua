-- commit(checkpoint before, checkpoint after, owner, rows) -> {"ok"}
--
-- Writes the changed rows of a view and moves the checkpoint with them, in one step: a view sees every event once.
--
-- Invariant: the rows are the fold of the log up to the stored checkpoint. It holds because a commit is refused
-- unless the stored checkpoint is the one that its rows were folded from, its writer is the last that claimed the
-- projection, and the build is the one it loaded. A commit that is sent again, because its reply was lost, finds
-- the checkpoint that it set itself and answers as it did then.
--
-- KEYS
--   1 projection  checkpoint (position, id), owner, build, applied, updated
--   2 view        the rows of the build
--
-- ARGV
--   1 owner, 2 build, 3 position before, 4 id before, 5 position after, 6 id after,
--   7 events handled in this batch, 8 count of rows to set, then key and value of each, then keys to delete
--
-- Replies
--   {"ok"}, {"owner", who}, {"build", which}, {"moved", position}

local call = redis.call
local projection, view = KEYS[1], KEYS[2]
local owner, build = ARGV[1], ARGV[2]
local before, id_before, after, id_after = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local FIRST_ROW = 9
local CHUNK = 1000 -- unpack fails near 8,000

local stored = call('HMGET', projection, 'owner', 'build', 'position', 'id')
if stored[1] ~= owner then return {'owner', stored[1] or ''} end
if stored[2] ~= build then return {'build', stored[2] or ''} end
local position, id = stored[3] or '0', stored[4] or ''
if position == after and id == id_after then return {'ok'} end
if position ~= before or id ~= id_before then return {'moved', position} end

local last_set = FIRST_ROW - 1 + 2 * tonumber(ARGV[8])
local function write(command, from, to, step)
  for at = from, to, step do
    call(command, view, unpack(ARGV, at, math.min(at + step - 1, to)))
  end
end
write('HSET', FIRST_ROW, last_set, CHUNK * 2)
write('HDEL', last_set + 1, #ARGV, CHUNK)

local now = call('TIME')
call('HSET', projection, 'position', after, 'id', id_after, 'updated', now[1] .. string.format('%06d', now[2]))
if ARGV[7] ~= '0' then call('HINCRBY', projection, 'applied', ARGV[7]) end
return {'ok'}
