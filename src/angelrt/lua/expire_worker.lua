-- Give back everything that one worker holds, at most 500 a call, and strike it from the register when nothing is left.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max worker how beat_ms
-- RETURNS   how many jobs were given back, or -1 when the worker beat again since `beat_ms` was read (beat_ms '' asks for no such check)
-- INVARIANT how = l charges the attempts (the worker died), how = x does not (it handed back what had not started)
local now, events_max, worker, how, beat_ms = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local queues = given_queues()

if beat_ms ~= '' then
  local beat = call('ZSCORE', BEATS, worker)
  if not beat or tonumber(beat) ~= tonumber(beat_ms) then return -1 end
end
local counts, all, given_back, valid, gone = {}, {}, 0, {}, {}
local members = call('ZRANGEBYLEX', HELD, '[' .. worker .. '\0', '(' .. worker .. '\1', 'LIMIT', '0', BATCH_MAX)
for _, member in ipairs(members) do all[#all + 1] = string.sub(member, #worker + 2) end
local runs = #all > 0 and call('HMGET', RUNS, unpack(all)) or {}
for i in ipairs(all) do
  local run = runs[i] and parse_run(runs[i])
  valid[i] = run and run.worker == worker and string.sub(run.token, 1, 1) ~= '!'
end
for _, queue in ipairs(queues) do
  local ids = {}
  local leases = #all > 0 and call('ZMSCORE', queue.leased, unpack(all)) or {}
  for i, id in ipairs(all) do
    if leases[i] and not (runs[i] and parse_run(runs[i]).worker ~= worker) then
      ids[#ids + 1] = id
      valid[i] = false
    end
  end
  if #ids > 0 then wake(queue) end
  local moved, _, stopped = moves().give_back(queue, ids, how, now, counts)
  write('HDEL', RUNS, stopped)
  write('ZREM', queue.leased, ids)
  given_back = given_back + moved
  if how == 'l' and moved > 0 then count(counts, queue.name .. '|*', 'lost', moved) end
end
-- By these the jobs are found, so they go last; what it holds in a queue that was not named is still held.
for i, member in ipairs(members) do
  if not valid[i] then gone[#gone + 1] = member end
end
write('ZREM', HELD, gone)
if #gone == #members and #members < BATCH_MAX then
  call('HDEL', WORKERS, worker)
  call('ZREM', BEATS, worker)
end
write_counts(counts)
if #all > 0 then event(EVENTS, events_max, 'expire', worker, #all, all) end
return given_back
