-- The short way of enqueue: what it comes to for new jobs that are ready at once and that nothing may hold back. It leaves this block, and
-- has written nothing, where the long way is to be taken. It is no function, since to make one costs as much as to run it.
repeat
  local now = clock(ARGV[1])
  local rank = integer(DEFAULT_PRIORITY * PRIORITY_STEP + math.floor((now - EPOCH_MS) * TICKS_PER_MS))
  local places, ids, records = unpacked(ARGV[3])
  local is_plain, is_new, codes, stored, lines = #ids > 0, {}, {}, {}, {} -- a line by place, which is the same of many jobs
  for k = 1, #ids do
    local id, record, place = ids[k], records[k], places[k]
    local line = lines[place]
    if not line then
      line = { queue = tonumber(place), ready = {}, sent = {} }
      lines[place], is_plain = line, is_plain and line.queue
    end
    local ready, actor = line.ready, actor_of(record)
    local n = #ready
    is_plain, is_new[id] = is_plain and not is_new[id], true
    ready[n + 1], ready[n + 2] = rank, id
    stored[2 * k - 1], stored[2 * k] = id, record
    line.sent[actor] = (line.sent[actor] or 0) + 1
    codes[k] = 1
  end
  if not is_plain then break end
  if call('EXISTS', CONTROL, RULES) > 0 then
    is_plain = call('EXISTS', CONTROL) == 0
    for before = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
      is_plain = is_plain and call('HEXISTS', RULES, 'aging ' .. queue_name(before)) == 0
    end
    if not is_plain then break end
  end
  local known = call('HMGET', JOBS, unpack(ids))
  for k = 1, #ids do is_plain = is_plain and not known[k] end
  if not is_plain then break end

  local counts = {}
  for _, line in pairs(lines) do
    local before = OWN_KEYS + (line.queue - 1) * QUEUE_KEYS
    local name = queue_name(before)
    for actor, sent in pairs(line.sent) do counts[name .. '|' .. actor] = { sent = sent } end
    call('ZADD', QUEUES, '0', name)
    call('ZADD', KEYS[before + WAKE], '0', 'm')
    write('ZADD', KEYS[before + READY], line.ready)
  end
  write('HSET', JOBS, stored) -- last: an id without a record is dropped by claim and sent again by its sender
  write_counts(counts)
  event(EVENTS, ARGV[2], 'enqueue', '-', #ids, ids)
  return codes
until true
