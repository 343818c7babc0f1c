-- Lease what is first in line in ready where nothing is overdue or paused, no lane may open, nobody takes turns, nothing expires, and each
-- job that comes was never delivered, is of an actor that the worker has, and has nothing that may hold it: the short way of claim.
-- KEYS      jobs runs held events beats control | per queue: ready delayed leased opens wake expires turns
-- ARGV      now_ms events_max worker token lease_ms capacity actors how (all as claim has them)
-- RETURNS   as claim does; nothing where it declines: the long way is to be taken
-- INVARIANT it writes what claim would write; where it declines, it has written nothing but the markers that may have been waited for, so
--           that whoever waits next, this worker or another, looks for the work
local now, events_max, worker, token, lease_ms = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local capacity, actors, has_waited = tonumber(ARGV[6]), ARGV[7], ARGV[8] == 'w'
local is_plain, earliest, granted, live, reply, lines, knows = true, math.huge, 0, nil, { '', '', 0, {} }, {}, {}
local deadline = whole_ms(now + lease_ms) -- as text, like all that is written for each job
local run_head, run_tail = token .. ' ' .. worker .. ' ', ' 1 1 0 ' .. whole_ms(now) .. ' - '
local lease, held_head = token .. ' 1 - ', worker .. '\0'

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
  if not is_plain then
    for at = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
      if has_waited then call('ZADD', KEYS[at + WAKE], '0', 'm') end
    end
    return false
  end
end

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
tell(reply, granted, events_max, worker)
reply[1], reply[2] = stamp, earliest < math.huge and math.ceil(earliest) .. '' or '-1'
return reply
