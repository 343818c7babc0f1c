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
-- each job that comes was never delivered, is of an actor that the worker has, and has nothing that may hold it. It leaves this block,
-- and has written nothing, where the long way is to be taken. It is no function, since to make one costs as much as to run it.
repeat
  if ARGV[8] == '1' then break end
  local now, worker, capacity, actors = clock(ARGV[1]), ARGV[3], tonumber(ARGV[6]), ARGV[9]
  local is_plain, earliest, granted, live, reply, lines, knows = true, math.huge, 0, nil, { '', '', 0, {} }, {}, {}
  local deadline = whole_ms(now + tonumber(ARGV[5])) -- as text, like all that is written for each job
  local run_head, run_tail = ARGV[4] .. ' ' .. worker .. ' ', ' 1 1 0 ' .. whole_ms(now) .. ' - '
  local lease, held_head = ARGV[4] .. ' 1 - ', worker .. '\0'

  for before = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
    local expires, opens, turns, delayed, leased =
      KEYS[before + EXPIRES], KEYS[before + OPENS], KEYS[before + TURNS], KEYS[before + DELAYED], KEYS[before + LEASED]
    local others = call('EXISTS', CONTROL, expires, opens, turns, delayed, leased) -- less the last two, where they are among them
    if others > 0 then
      for _, key in ipairs({ delayed, leased }) do
        local first = call('ZRANGE', key, '0', '0', 'WITHSCORES')[2]
        if first then others, earliest = others - 1, math.min(earliest, tonumber(first)) end
      end
    end
    is_plain = others == 0 and earliest > now
    local waiting, most = is_plain and call('ZCARD', KEYS[before + READY]) or 0, 0
    if waiting > 0 then
      local share = waiting
      if waiting > 1 then
        live = live or math.max(call('ZCARD', BEATS), 1)
        share = math.ceil(waiting / live)
      end
      most = math.min(capacity - granted, share, BATCH_MAX - granted)
      lines[#lines + 1] = { before = before, waiting = waiting, taken = math.max(most, 0), leased = {}, runs = {}, held = {} }
    end
    if most > 0 then
      local line, ids = lines[#lines], {}
      local ready = call('ZRANGE', KEYS[before + READY], '0', most - 1, 'WITHSCORES')
      for i = 1, #ready, 2 do ids[#ids + 1] = ready[i] end
      for _, run in ipairs(call('HMGET', RUNS, unpack(ids))) do is_plain = is_plain and not run end
      for i, record in ipairs(call('HMGET', JOBS, unpack(ids))) do
        local id, rank, n = ids[i], digits(ready[2 * i]), REPLY_HEAD + granted * JOB_FIELDS
        local actor = record and actor_of(record)
        if actor and knows[actor] == nil then knows[actor] = string.find(actors, '\0' .. actor .. '\0', 1, true) ~= nil end
        is_plain = is_plain and knows[actor or ''] and #rank >= 16
        push(line.leased, deadline, id)
        push(line.runs, id, run_head .. rank .. run_tail)
        push(line.held, '0', held_head .. id)
        reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, (before - OWN_KEYS) / QUEUE_KEYS + 1, rank, record, lease
        granted = granted + 1
      end
    end
    if not is_plain then break end
  end
  if not is_plain then break end

  local stamp = exact(now)
  call('ZADD', BEATS, 'XX', stamp, worker)
  for _, line in ipairs(lines) do
    write('ZADD', HELD, line.held)
    write('ZADD', KEYS[line.before + LEASED], line.leased)
    write('HSET', RUNS, line.runs)
    if line.taken > 0 then
      call('ZREMRANGEBYRANK', KEYS[line.before + READY], '0', line.taken - 1)
      earliest = math.min(earliest, tonumber(deadline))
    end
    if line.waiting > line.taken then
      reply[3] = 1
      call('ZADD', KEYS[line.before + WAKE], '0', 'm')
    end
  end
  tell(reply, granted, ARGV[2], worker)
  reply[1], reply[2] = stamp, earliest < math.huge and math.ceil(earliest) .. '' or '-1'
  return reply
until true
