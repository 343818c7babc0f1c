-- The short way of enqueue: what it comes to for new jobs that are ready at once and that nothing may hold back. It leaves this block, and
-- has written nothing, where the long way is to be taken. It is no function, since to make one costs as much as to run it.
repeat
  local now, is_new = clock(ARGV[1]), {}
  local places, ids, records = unpack(cmsgpack.unpack(ARGV[3]))
  local is_plain = #ids > 0
  for k, id in ipairs(ids) do
    is_plain = is_plain and tonumber(places[k]) and not is_new[id]
    is_new[id] = true
  end
  if not is_plain then break end
  if call('EXISTS', CONTROL, RULES) > 0 then
    is_plain = call('EXISTS', CONTROL) == 0
    for before = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
      is_plain = is_plain and call('HEXISTS', RULES, 'aging ' .. queue_name(before)) == 0
    end
    if not is_plain then break end
  end
  for _, known in ipairs(call('HMGET', JOBS, unpack(ids))) do is_plain = is_plain and not known end
  if not is_plain then break end

  local codes, stored, ready, names, counts = {}, {}, {}, {}, {}
  local rank = integer(DEFAULT_PRIORITY * PRIORITY_STEP + math.floor((now - EPOCH_MS) * TICKS_PER_MS))
  for before = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
    ready[#ready + 1], names[#names + 1] = {}, queue_name(before)
    call('ZADD', QUEUES, '0', names[#names])
  end
  for k, id in ipairs(ids) do
    local q, record = tonumber(places[k]), records[k]
    push(ready[q], rank, id)
    push(stored, id, record)
    count(counts, names[q] .. '|' .. actor_of(record), 'sent')
    codes[k] = 1
  end
  for q, waiting in ipairs(ready) do
    if waiting[1] then
      local before = OWN_KEYS + (q - 1) * QUEUE_KEYS
      call('ZADD', KEYS[before + WAKE], '0', 'm')
      write('ZADD', KEYS[before + READY], waiting)
    end
  end
  write('HSET', JOBS, stored) -- last: an id without a record is dropped by claim and sent again by its sender
  write_counts(counts)
  event(EVENTS, ARGV[2], 'enqueue', '-', #ids, ids)
  return codes
until true
