-- Put jobs into ready, into delayed, or into the lane of a gate that is closed, once each: an id that is known is left as it is.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max jobs (packed: places, ids and records; place: a queue, or `queue priority when flow` where one of these
--           is given; or of one job without these: `queue NUL id NUL record`)
-- RETURNS   per job: 1 when it is new or was sent before with this very record, 0 when the id belongs to another record; the id of the job
--           that has its unique key, behind `!` where the send is to be refused; `#` and the name of what is drained
-- INVARIANT an id in jobs is in exactly one place; calling again with the same arguments changes nothing
local now, events_max, packed = clock(ARGV[1]), ARGV[2], ARGV[3]
local queues = given_queues()

local counts = {}
for _, queue in ipairs(queues) do call('ZADD', QUEUES, '0', queue.name) end
local codes, ids = moves().enqueue(given_jobs(packed, queues), queues, now, counts)
write_counts(counts)
event(EVENTS, events_max, 'enqueue', '-', #ids, ids)
return codes
