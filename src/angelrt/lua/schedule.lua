-- Change the record of a schedule, if it still is as the caller has read it, together with the jobs of its occurrences.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max name expected new previous how jobs (packed as by enqueue)
--           (expected: the head of the record, '' for none; new: the head that it gets, with a NUL and the rest where that changes, '' to
--           remove it; previous: occurrences inserted before, parted by spaces; how: d to take away those that were never begun, a time in
--           ms to leave the first job out if the previous occurrence makes up for what was missed since, '' for neither)
-- RETURNS   1 the record is as the caller wants it, by this call or an earlier one, 0 somebody was faster; then per job what enqueue answers
-- INVARIANT of all who expect the same head, or call again, one inserts the occurrences that follow it
local now, events_max, name, expected, new = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local previous, how, packed = ARGV[6], ARGV[7], ARGV[8]
local queues = given_queues()

local TAKEN_AWAY = 'kschedule'

local counts = {}

local function head_of(record)
  return string.match(record or '', '^[^%z]*')
end

local function has_ended(id)
  for _, ended in ipairs({ COMPLETED, FAILED, CANCELLED }) do
    if call('ZSCORE', ended, id) then return true end
  end
  return false
end

local function take_away(id)
  local record, run = call('HGET', JOBS, id), call('HGET', RUNS, id)
  if not record or parse_run(run).deliveries > 0 then return end
  if run then moves().finish_end(id, run) end -- a call that broke off has left it
  for _, queue in ipairs(queues) do
    if moves().end_waiting(queue, id, record, run, TAKEN_AWAY, now) then
      count(counts, queue.name .. '|' .. actor_of(record), 'cancelled')
      return
    end
  end
end

-- An occurrence that was taken away with its schedule comes again with it, under the same id. One without record and result is what a call
-- that broke off has left of it.
local function forget_taken_away(id)
  local record, result = call('HGET', JOBS, id), call('HGET', RESULTS, id)
  local run = parse_run(result)
  if result and (run.deliveries > 0 or not string.find(',' .. run.flow .. ',', ',' .. TAKEN_AWAY .. ',', 1, true)) then return end
  if record and not result then return end
  local blob = record and blob_of(id, record)
  if blob then call('HDEL', BLOBS, blob) end
  if record then call('HDEL', JOBS, id) end
  if result then call('HDEL', RESULTS, id) end
  call('ZREM', CANCELLED, id)
end

-- An occurrence makes up for those that came after it if it has not ended, or was begun after that.
local function makes_up(id, missed_ms)
  if call('HEXISTS', JOBS, id) == 0 then return false end
  return not has_ended(id) or tonumber(parse_run(call('HGET', RESULTS, id)).started) >= missed_ms
end

-- Arguments kept apart were stored with the call; those of a job that is not inserted belong to nothing.
local function leave_out(job)
  local blob = blob_of(job.id, job.record)
  if blob and call('HGET', JOBS, job.id) ~= job.record then call('HDEL', BLOBS, blob) end
end

local jobs, record = given_jobs(packed, queues), call('HGET', SCHEDULES, name)
if head_of(record) ~= expected then
  for _, job in ipairs(jobs) do leave_out(job) end
  return { head_of(record) == head_of(new) and 1 or 0 }
end
if how == 'd' then
  for id in string.gmatch(previous, '%S+') do take_away(id) end
end
if tonumber(how) and jobs[1] and makes_up(previous, tonumber(how)) then leave_out(table.remove(jobs, 1)) end
for _, job in ipairs(jobs) do forget_taken_away(job.id) end
for _, queue in ipairs(queues) do call('ZADD', QUEUES, '0', queue.name) end
local codes, ids = moves().enqueue(jobs, queues, now, counts)
write_counts(counts)
if #ids > 0 then event(EVENTS, events_max, 'schedule', '-', #ids, ids) end
if new == '' then
  call('HDEL', SCHEDULES, name)
else
  call('HSET', SCHEDULES, name, string.find(new, '\0', 1, true) and new or new .. string.sub(record, #expected + 1))
end
return { 1, unpack(codes) }
