-- Keep a worker alive in the register; with actors given (at its start), open the lanes of jobs that waited for them.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms worker info | per actor: name
-- RETURNS   now_ms
-- INVARIANT after registration, every lane with waiters of an actor of this worker has an entry in opens
local now, worker, info = clock(ARGV[1]), ARGV[2], ARGV[3]
local queues = given_queues()

call('HSET', WORKERS, worker, info)
call('ZADD', BEATS, now, worker)
for i = 4, #ARGV do
  local lane = lane_of(ARGV[i])
  for _, queue in ipairs(queues) do
    if has_waiters(queue, lane) then
      call('ZADD', queue.opens, -now, lane)
      wake(queue)
    end
  end
end
return string.format('%.3f', now)
