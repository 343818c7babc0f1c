-- Move what time alone moves: due jobs and expired leases go to ready, and a sleeping worker is woken for them.
-- KEYS      runs held stats | per queue: ready delayed leased lanes opens wake
-- ARGV      now_ms
-- RETURNS   now_ms and next_due_ms (-1 for never)
-- INVARIANT a queue that holds claimable work after this call has its wake marker
local RUNS, HELD, STATS = KEYS[1], KEYS[2], KEYS[3]
local now = clock(ARGV[1])
local queues = queues_from(4)

local counts = {}
move_overdue(queues, RUNS, HELD, now, counts)
for _, queue in ipairs(queues) do
  if queue.moved then wake(queue) end
end
write_counts(STATS, counts)
return { string.format('%.3f', now), integer(next_due(queues)) }
