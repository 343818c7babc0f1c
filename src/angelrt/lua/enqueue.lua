-- Put jobs into ready or delayed, once each: an id that is known is left as it is.
-- KEYS      jobs runs blobs queues stats events | per queue: ready delayed leased lanes opens wake
-- ARGV      now_ms events_max | per job: queue id record priority when
-- RETURNS   per job: 1 when it is new or was sent before with this very record, 0 when the id belongs to another record
-- INVARIANT an id in jobs is in exactly one place; calling again with the same arguments changes nothing
local JOBS, RUNS, BLOBS, QUEUES, STATS, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, events_max = clock(ARGV[1]), ARGV[2]
local queues = queues_from(7)

local counts = {}
for _, queue in ipairs(queues) do call('ZADD', QUEUES, 0, queue.name) end
local codes, ids = enqueue(3, #ARGV, queues, now, JOBS, RUNS, BLOBS, counts)
write_counts(STATS, counts)
event(EVENTS, events_max, 'enqueue', '-', #ids, ids)
return codes
