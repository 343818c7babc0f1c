-- Extend the leases of runs whose token is still valid, and name those that must stop: their lease is lost, or somebody cancelled the job.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms lease_ms | per run: queue id token
-- RETURNS   how many leases are lost, the ids of those (their runs can change nothing), then the ids of runs that were asked to stop
-- INVARIANT a lease is extended only under its own token; no job changes place
local now, lease_ms = clock(ARGV[1]), tonumber(ARGV[2])
local queues = given_queues()

local ids, lost, asked, extended = {}, {}, {}, {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = ARGV[i + 1] end
if #ids == 0 then return { 0 } end
local runs = call('HMGET', RUNS, unpack(ids))
for k, id in ipairs(ids) do
  local at = 3 + (k - 1) * 3
  local queue, token = queues[tonumber(ARGV[at])], ARGV[at + 2]
  if runs[k] and string.sub(runs[k], 1, #token + 1) == token .. ' ' then
    extended[queue] = extended[queue] or {}
    push(extended[queue], math.floor(now + lease_ms), id)
    if is_asked_to_stop(flow_of(runs[k])) then asked[#asked + 1] = id end
  else
    lost[#lost + 1] = id
  end
end
for queue, leases in pairs(extended) do write('ZADD', queue.leased, leases) end
local reply = { #lost }
for _, id in ipairs(lost) do reply[#reply + 1] = id end
for _, id in ipairs(asked) do reply[#reply + 1] = id end
return reply
