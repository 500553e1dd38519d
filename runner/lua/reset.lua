-- reset(projection) -> {"ok", position, rows}
--
-- Forgets a projection: its view, its checkpoint, its state. Whoever drives it is fenced off by that. With dry run
-- it only says what would go.
--
-- KEYS
--   1 projection, 2 projections, 3 view
--
-- ARGV
--   1 projection name, 2 build, 3 "1" for a dry run

local call = redis.call
local build = call('HGET', KEYS[1], 'build')
if build and build ~= ARGV[2] then return {'build', build} end
local position, rows = call('HGET', KEYS[1], 'position') or '0', call('HLEN', KEYS[3])
if ARGV[3] ~= '1' then
  call('UNLINK', KEYS[1], KEYS[3])
  call('SREM', KEYS[2], ARGV[1])
end
return {'ok', position, rows}
