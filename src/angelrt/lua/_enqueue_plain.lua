-- The short way of enqueue, and where its jobs stand.
local FIRST, FIELDS = 3, 6

-- What enqueue comes to for new jobs that are ready at once and that nothing may hold back.
local function plain()
  local now, queues = clock(ARGV[1]), given_queues()
  local ids, codes, records, ready, is_new, counts = {}, {}, {}, {}, {}, {}
  for at = FIRST, #ARGV, FIELDS do
    local id = ARGV[at + 1]
    if ARGV[at + 3] ~= '' or ARGV[at + 4] ~= '' or ARGV[at + 5] ~= '' or is_new[id] then return nil end
    is_new[id], ids[#ids + 1] = true, id
  end
  if #ids == 0 or call('EXISTS', CONTROL) == 1 then return nil end
  for _, queue in ipairs(queues) do
    if call('HEXISTS', RULES, 'aging ' .. queue.name) == 1 then return nil end
  end
  for _, known in ipairs(call('HMGET', JOBS, unpack(ids))) do
    if known then return nil end
  end
  local rank = integer(DEFAULT_PRIORITY * PRIORITY_STEP + math.floor((now - EPOCH_MS) * TICKS_PER_MS))
  for k, id in ipairs(ids) do
    local at = FIRST + (k - 1) * FIELDS
    local queue, record = queues[tonumber(ARGV[at])], ARGV[at + 2]
    ready[queue] = ready[queue] or {}
    push(ready[queue], rank, id)
    push(records, id, record)
    count(counts, queue.name .. '|' .. actor_of(record), 'sent')
    codes[k] = 1
  end
  for _, queue in ipairs(queues) do call('ZADD', QUEUES, '0', queue.name) end
  for _, queue in ipairs(queues) do
    if ready[queue] then
      wake(queue)
      write('ZADD', queue.ready, ready[queue])
    end
  end
  write('HSET', JOBS, records) -- last: an id without a record is dropped by claim and sent again by its sender
  write_counts(counts)
  event(EVENTS, ARGV[2], 'enqueue', '-', #ids, ids)
  return codes
end
