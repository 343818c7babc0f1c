-- Let failed jobs wait again, now or later, with all their attempts before them and their gates to pass once more.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max | per job: queue id failed_ms when record void flow
--           (failed_ms: the failure that is meant; when: as in enqueue; record: the new one, '' for the job as it is; void: what the old
--           record leaves in blobs; flow: with a new record, its flow, '-' for none)
-- RETURNS   now_ms, then per job: 1 it waits again, by this call or an earlier one, 0 this failure is not there; the id of the job that has
--           its unique key; `#` and the name of what is drained
-- INVARIANT a failure is replayed once: calling again with the same arguments changes nothing
local now, events_max = clock(ARGV[1]), ARGV[2]
local queues = given_queues()

local FIELDS, FIRST = 7, 3
local KEPT = '^[crptu]' -- items of a flow that a replay keeps: not what ended the job, nor until when it was to begin

local function kept_flow(flow)
  local kept = '-'
  for item in string.gmatch(flow, '[^,]+') do
    if string.find(item, KEPT) then kept = with_item(kept, item) end
  end
  return kept
end

-- The run that a result begins with.
local function run_of(result)
  return result and parse_run(string.match(result, '^[^%z]*'))
end

local function was_replayed(run, failed_ms)
  return run and string.find(';' .. run.history, ';f,%d+,' .. failed_ms .. ',') ~= nil
end

local ids, scores, records, runs, results = {}, {}, {}, {}, {}
for at = FIRST, #ARGV, FIELDS do ids[#ids + 1] = ARGV[at + 1] end
if #ids > 0 then
  scores, records = call('ZMSCORE', FAILED, unpack(ids)), call('HMGET', JOBS, unpack(ids))
  runs, results = call('HMGET', RUNS, unpack(ids)), call('HMGET', RESULTS, unpack(ids))
end

local codes, again, again_ids, orphans, taken = {}, {}, {}, {}, {}

-- The job that does the same work, if another does.
local function other_holder(id, flow)
  local key = turns().unique_of(flow)
  if not key then return nil end
  local holder = taken[key] or turns().holder_of(key, now)
  if holder and holder ~= id then return holder end
  taken[key] = id
end

-- Its deliveries go on: the next result then finds the error of this failure, which stays until it is overwritten.
local function new_life(run, flow, failed_ms)
  run.flow, run.attempts, run.losses = flow, 0, 0
  return close_run(run, 'f', tonumber(failed_ms))
end

local function check(i, queue, id, failed_ms, when, record, void, flow)
  if tonumber(scores[i] or -1) ~= tonumber(failed_ms) then
    local known = was_replayed(runs[i] and parse_run(runs[i]) or run_of(results[i]), failed_ms)
    return known and (record == '' or records[i] == record) and 1 or 0
  end
  local run = run_of(results[i])
  if not run or not records[i] then return 0 end
  run = new_life(run, kept_flow(record == '' and run.flow or flow), failed_ms)
  local closed = moves().drained(queue, records[i], run.flow)
  local other = closed and '#' .. closed or other_holder(id, run.flow)
  if other then return other end
  local at = moves().time_of(when, now)
  -- A call that broke off may have given it its place already.
  local is_placed = runs[i] and moves().find(queue, id, records[i], runs[i]) ~= nil
  again[#again + 1] = { queue = queue, id = id, run = run, at = at, record = record, void = void, is_placed = is_placed }
  again_ids[#again_ids + 1] = id
  return 1
end

for i, id in ipairs(ids) do
  local failed_ms, when, record, void, flow = unpack(ARGV, FIRST + (i - 1) * FIELDS + 2, FIRST + i * FIELDS - 1)
  codes[i] = check(i, queues[tonumber(ARGV[FIRST + (i - 1) * FIELDS])], id, failed_ms, when, record, void, flow)
  if codes[i] ~= 1 and record ~= '' and records[i] ~= record then orphans[#orphans + 1] = blob_of(id, record) end
end

local new_runs, new_records, void_blobs, placed = {}, {}, orphans, moves().places(now)
for _, job in ipairs(again) do
  local run, queue = job.run, job.queue
  if not job.is_placed then
    local key, till = turns().unique_of(run.flow)
    if key and turns().holder_of(key, now) ~= job.id then turns().take_unique(key, till, job.id, now) end
    local priority = turns().priority_of(queue, run.rank, run.flow)
    run.rank = job.at <= now and placed.now_ready(queue, job.id, priority, run.flow) or placed.later(queue, job.id, priority, job.at)
    push(new_runs, job.id, format_run(run))
  end
  if job.record ~= '' then
    push(new_records, job.id, job.record)
    if job.void ~= '' then void_blobs[#void_blobs + 1] = job.void end
  end
end
write('HSET', RUNS, new_runs)
write('HSET', JOBS, new_records)
placed.commit()
write('HDEL', BLOBS, void_blobs)
if #again > 0 then event(EVENTS, events_max, 'replay', '-', #again, again_ids) end
write('ZREM', FAILED, again_ids)
return { string.format('%.3f', now), unpack(codes) }
