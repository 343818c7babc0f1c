-- Cancel jobs: one that waits ends at once, one that runs is asked to stop, and its worker hears of it.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max who | per job: id
-- RETURNS   per job: 1 cancelled, 2 asked to stop, 0 ended before, -1 no such job
-- INVARIANT a job that was asked to stop never waits again: it ends, whatever becomes of its run
local now, events_max, who = clock(ARGV[1]), ARGV[2], ARGV[3]
local queues = given_queues()

local counts, codes, touched = {}, {}, {}

local function ask(id, run)
  local parsed = parse_run(run)
  if not is_asked_to_stop(parsed.flow) then
    parsed.flow = with_item(parsed.flow, 'k' .. who)
    call('HSET', RUNS, id, format_run(parsed))
  end
  call('PUBLISH', string.match(WATCH, '^(.*)watch$') .. 'asked:' .. parsed.worker, id)
  return 2
end

local function cancel(id)
  local record, run = call('HGET', JOBS, id), call('HGET', RUNS, id)
  if not record then return -1 end
  for _, queue in ipairs(queues) do
    if moves().end_waiting(queue, id, record, run, 'k' .. who, now) then
      count(counts, queue.name .. '|' .. actor_of(record), 'cancelled')
      return 1
    end
    if run and call('ZSCORE', queue.leased, id) then return ask(id, run) end
  end
  return moves().finish_end(id, run) and 1 or 0
end

for i = 4, #ARGV do
  codes[#codes + 1] = cancel(ARGV[i])
  if codes[#codes] > 0 then touched[#touched + 1] = ARGV[i] end
end
write_counts(counts)
if #touched > 0 then event(EVENTS, events_max, 'cancel', '-', #touched, touched) end
return codes
