-- Move what time alone moves: due jobs and ended leases go to ready, what was not begun in time ends, and a sleeping worker is woken.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms
-- RETURNS   now_ms and next_due_ms (-1 for never)
-- INVARIANT a queue that holds claimable work after this call has its wake marker
local now = clock(ARGV[1])
local queues = given_queues()

local counts = {}
move_overdue(queues, now, counts, true)
for _, queue in ipairs(queues) do
  if not queue.is_plain and #call('ZRANGEBYSCORE', queue.opens, 0, now, 'LIMIT', '0', '1') > 0 then wake(queue) end
end
write_counts(counts)
return { string.format('%.3f', now), integer(next_due(queues, now)) }
