-- Put jobs into ready, into delayed, or into the lane of a gate that is closed, once each: an id that is known is left as it is.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max | per job: queue id record priority when flow
-- RETURNS   per job: 1 when it is new or was sent before with this very record, 0 when the id belongs to another record; the id of the job
--           that has its unique key, behind `!` where the send is to be refused; `#` and the name of what is drained
-- INVARIANT an id in jobs is in exactly one place; calling again with the same arguments changes nothing
local now, events_max = clock(ARGV[1]), ARGV[2]
local queues = given_queues()

local FIRST, FIELDS = 3, 6
local counts = {}

-- What moves().enqueue comes to, in short, for new jobs that are ready at once and that nothing may hold back. Answers nil for others.
local function enqueue_plain()
  local ids, codes, records, ready, is_new = {}, {}, {}, {}, {}
  for at = FIRST, #ARGV, FIELDS do
    local id = ARGV[at + 1]
    if ARGV[at + 3] ~= '' or ARGV[at + 4] ~= '' or ARGV[at + 5] ~= '' or is_new[id] then return nil end
    is_new[id], ids[#ids + 1] = true, id
  end
  if #ids == 0 or call('EXISTS', CONTROL) == 1 then return nil end
  for _, known in ipairs(call('HMGET', JOBS, unpack(ids))) do
    if known then return nil end
  end
  for k, id in ipairs(ids) do
    local at = FIRST + (k - 1) * FIELDS
    local queue = queues[tonumber(ARGV[at])]
    ready[queue] = ready[queue] or { rank = integer(rank_of(queue, DEFAULT_PRIORITY, now)) }
    push(ready[queue], ready[queue].rank, id)
    push(records, id, ARGV[at + 2])
    count(counts, queue.name .. '|' .. actor_of(ARGV[at + 2]), 'sent')
    codes[k] = 1
  end
  for _, queue in ipairs(queues) do
    if ready[queue] then
      wake(queue)
      write('ZADD', queue.ready, ready[queue])
    end
  end
  write('HSET', JOBS, records) -- last: an id without a record is dropped by claim and sent again by its sender
  return codes, ids
end

for _, queue in ipairs(queues) do call('ZADD', QUEUES, '0', queue.name) end
local codes, ids = enqueue_plain()
if not codes then codes, ids = moves().enqueue(FIRST, #ARGV, queues, now, counts) end
write_counts(counts)
event(EVENTS, events_max, 'enqueue', '-', #ids, ids)
return codes
