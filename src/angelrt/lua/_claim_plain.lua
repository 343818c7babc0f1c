-- The short way of claim, and what both ways need of its answer.
local REPLY_HEAD, JOB_FIELDS = 4, 5

-- Tell of the jobs that an answer brings.
local function tell(reply, granted, events_max, worker)
  if granted == 0 then return end
  local first_ids = {}
  for i = 1, math.min(granted, EVENT_IDS_MAX) do first_ids[i] = reply[REPLY_HEAD + 1 + (i - 1) * JOB_FIELDS] end
  event(EVENTS, events_max, 'claim', worker, granted, first_ids)
end

-- What claim comes to where nothing is overdue or paused, no lane may open, nobody takes turns, nothing expires, and
-- each job that comes was never delivered, is of an actor that the worker has, and has nothing that may hold it.
local function plain()
  if ARGV[8] == '1' or call('EXISTS', CONTROL) == 1 then return nil end
  local now, worker, token, capacity, actors = clock(ARGV[1]), ARGV[3], ARGV[4], tonumber(ARGV[6]), ARGV[9]
  local deadline, started = integer(math.floor(now + tonumber(ARGV[5]))), integer(math.floor(now))
  local run_head, run_tail, held_head = token .. ' ' .. worker .. ' ', ' 1 1 0 ' .. started .. ' - ', worker .. '\0'
  local reply, granted, lines, knows, live = { '', '', 0, {} }, 0, {}, {}, nil

  -- Take the first of a queue, and write nothing yet. Answers false where the long way is to be taken.
  local function take(index, queue)
    local waiting = call('ZCARD', queue.ready)
    if waiting == 0 then return true end
    live = live or math.max(call('ZCARD', BEATS), 1)
    local most = math.min(capacity - granted, math.ceil(waiting / live), BATCH_MAX - granted)
    local line = { queue = queue, waiting = waiting, taken = 0, leased = {}, runs = {}, held = {} }
    lines[#lines + 1] = line
    if most <= 0 then return true end
    local ready, ids = call('ZRANGE', queue.ready, '0', most - 1, 'WITHSCORES'), {}
    for i = 1, #ready, 2 do ids[#ids + 1] = ready[i] end
    for _, run in ipairs(call('HMGET', RUNS, unpack(ids))) do
      if run then return false end
    end
    for i, record in ipairs(call('HMGET', JOBS, unpack(ids))) do
      local id, rank, n = ids[i], digits(ready[2 * i]), REPLY_HEAD + granted * JOB_FIELDS
      local actor = record and actor_of(record)
      if actor and knows[actor] == nil then knows[actor] = string.find(actors, '\0' .. actor .. '\0', 1, true) ~= nil end
      if not actor or not knows[actor] or #rank < 16 then return false end
      local run = run_head .. rank .. run_tail
      push(line.leased, deadline, id)
      push(line.runs, id, run)
      push(line.held, '0', held_head .. id)
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, index, rank, record, run
      granted = granted + 1
    end
    line.taken = #ids
    return true
  end

  local earliest = math.huge
  for index, queue in ipairs(given_queues()) do
    if call('EXISTS', queue.expires, queue.opens, queue.turns) > 0 then return nil end
    for _, key in ipairs({ queue.delayed, queue.leased }) do
      earliest = math.min(earliest, tonumber(call('ZRANGE', key, '0', '0', 'WITHSCORES')[2] or math.huge))
    end
    if earliest <= now or not take(index, queue) then return nil end
  end
  local stamp = exact(now)
  call('ZADD', BEATS, 'XX', stamp, worker)
  for _, line in ipairs(lines) do
    write('ZADD', HELD, line.held)
    write('ZADD', line.queue.leased, line.leased)
    write('HSET', RUNS, line.runs)
    if line.taken > 0 then
      call('ZREMRANGEBYRANK', line.queue.ready, '0', line.taken - 1)
      earliest = math.min(earliest, tonumber(deadline))
    end
    if line.waiting > line.taken then
      reply[3] = 1
      wake(line.queue)
    end
  end
  tell(reply, granted, ARGV[2], worker)
  reply[1], reply[2] = stamp, earliest < math.huge and integer(math.ceil(earliest)) or '-1'
  return reply
end
