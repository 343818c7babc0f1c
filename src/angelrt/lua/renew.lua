-- Extend the leases of runs whose token is still valid, and name those that are not.
-- KEYS      runs | per queue: ready delayed leased lanes opens wake
-- ARGV      now_ms lease_ms | per run: queue id token
-- RETURNS   the ids whose lease is lost: their runs must stop and can change nothing
-- INVARIANT a lease is extended only under its own token; no job changes place
local RUNS = KEYS[1]
local now, lease_ms = clock(ARGV[1]), tonumber(ARGV[2])
local queues = queues_from(2)

local ids, lost, extended = {}, {}, {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = ARGV[i + 1] end
if #ids == 0 then return lost end
local runs = call('HMGET', RUNS, unpack(ids))
for k, id in ipairs(ids) do
  local at = 3 + (k - 1) * 3
  local queue, token = queues[tonumber(ARGV[at])], ARGV[at + 2]
  if runs[k] and string.sub(runs[k], 1, #token + 1) == token .. ' ' then
    extended[queue] = extended[queue] or {}
    table.insert(extended[queue], math.floor(now + lease_ms))
    table.insert(extended[queue], id)
  else
    lost[#lost + 1] = id
  end
end
for queue, leases in pairs(extended) do write('ZADD', queue.leased, leases) end
return lost
