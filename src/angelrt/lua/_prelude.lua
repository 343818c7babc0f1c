-- Pure helpers, put before every script. Times are milliseconds of the server's clock, ranks are exact integers below 2^53.
-- The state of a job is the sorted set that holds its id; a script writes the destination first and removes from the source last,
-- since Redis keeps what a failing script has already written.

local call = redis.call
local EPOCH_MS = 1704067200000 -- 2024-01-01, so that a rank of priority 9 stays below 2^53 until 2093
local TICKS_PER_MS = 256
local PRIORITY_STEP = 2 ^ 49
local DEFAULT_PRIORITY = 5
local BATCH_MAX = 500          -- the most jobs one call examines
local HISTORY_MAX = 10
local STATS_FIELDS_MAX = 20000 -- beyond this, counters of new actors go to one field per queue
local STATS_TTL_S = 90000      -- 25 h: gone before the ring of 26 hours comes round
local EVENT_IDS_MAX = 8

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000 * TICKS_PER_MS) / TICKS_PER_MS
end

local function rank_of(priority, ms)
  return priority * PRIORITY_STEP + math.floor((ms - EPOCH_MS) * TICKS_PER_MS)
end

local function priority_of(rank)
  return math.floor(rank / PRIORITY_STEP)
end

local function integer(number)
  return string.format('%.0f', number)
end

local function queues_from(first)
  local queues = {}
  for i = first, #KEYS, 6 do
    queues[#queues + 1] = {
      name = string.match(KEYS[i], '}:ready:(.*)$'),
      ready = KEYS[i], delayed = KEYS[i + 1], leased = KEYS[i + 2], lanes = KEYS[i + 3], opens = KEYS[i + 4], wake = KEYS[i + 5],
    }
  end
  return queues
end

local function actor_of(record)
  return string.match(record, '^([^%z]*)%z')
end

-- A run is `token worker rank deliveries attempts losses started_ms history`; the token of a job that is not leased begins with `!`.
local function parse_run(run)
  if not run then
    return { token = '!', worker = '-', deliveries = 0, attempts = 0, losses = 0, started = '0', history = '' }
  end
  local token, worker, rank, deliveries, attempts, losses, started, history =
    string.match(run, '^(%S+) (%S+) (%S+) (%d+) (%d+) (%d+) (%S+) (.*)$')
  return {
    token = token, worker = worker, rank = tonumber(rank), deliveries = tonumber(deliveries), attempts = tonumber(attempts),
    losses = tonumber(losses), started = started, history = history,
  }
end

local function format_run(run)
  return table.concat({
    run.token, run.worker, integer(run.rank), run.deliveries, run.attempts, run.losses, run.started, run.history,
  }, ' ')
end

-- The run ends without an outcome: note how (r retry, s snooze, l lost, x released) and give the token up.
local function close_run(run, how, now)
  local entry = how .. ',' .. run.started .. ',' .. integer(now) .. ',' .. run.worker
  local kept = { entry }
  for old in string.gmatch(run.history, '[^;]+') do
    if #kept < HISTORY_MAX then kept[#kept + 1] = old end
  end
  run.history = table.concat(kept, ';')
  run.token = '!' .. run.token
  return run
end

-- Arguments kept apart are in blobs under the id and the nonce of the record, so that they belong to this record and no other.
local function blob_of(id, record)
  local nonce, rest = string.match(record, '^[^%z]*%z(....)(.*)$')
  return nonce and string.sub(rest, -1) == '\0' and id .. '=' .. nonce or nil
end

local function lane_of(actor)
  return string.sub(redis.sha1hex(actor), 1, 12)
end

local function lane_member(lane, rank, id)
  return lane .. '\0' .. string.format('%016.0f', rank) .. '\0' .. id
end

local function write(command, key, arguments)
  for first = 1, #arguments, 4000 do
    call(command, key, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
end

local function wake(queue)
  call('ZADD', queue.wake, 0, 'm')
end

-- Counters of one call by label (`queue|actor`) and word; written as fields `queue|actor|word`.
local function count(counts, label, word, by)
  local words = counts[label]
  if not words then
    words = {}
    counts[label] = words
  end
  words[word] = (words[word] or 0) + (by or 1)
end

local function write_counts(key, counts)
  if not next(counts) then return end
  local full = call('HLEN', key) > STATS_FIELDS_MAX
  for label, words in pairs(counts) do
    if full then label = string.gsub(label, '|.*', '|*') end
    for word, by in pairs(words) do call('HINCRBY', key, label .. '|' .. word, by) end
  end
  if call('TTL', key) < 0 then call('EXPIRE', key, STATS_TTL_S) end
end

local function event(key, entries_max, verb, worker, jobs, ids)
  if entries_max == '' then return end
  call('XADD', key, 'MAXLEN', '~', entries_max, '*', 'v', verb, 'w', worker, 'n', jobs, 'ids',
    table.concat(ids, ' ', 1, math.min(#ids, EVENT_IDS_MAX)))
end

-- Move what is due from delayed to ready; a job ranks by the time at which it was due.
local function promote(queue, runs_key, now, most)
  local due = call('ZRANGEBYSCORE', queue.delayed, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  if #due == 0 then return 0 end
  local ids, ready = {}, {}
  for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
  local runs = call('HMGET', runs_key, unpack(ids))
  for i, id in ipairs(ids) do
    local priority = runs[i] and priority_of(parse_run(runs[i]).rank) or DEFAULT_PRIORITY
    ready[2 * i - 1] = rank_of(priority, tonumber(due[2 * i]))
    ready[2 * i] = id
  end
  write('ZADD', queue.ready, ready)
  write('ZREM', queue.delayed, ids)
  return #ids
end

-- Give leases back to ready at their old rank. `how` is l (the worker was lost: the attempt stays charged) or x (handed back: it does not).
-- A lease without a valid token is what a call that broke off has left: the job is in its place already, only the lease goes.
-- Answers how many were given back, and their entries in held; held and leased, by which leases are found, are left to the caller.
local function give_back(queue, ids, runs_key, how, now)
  if #ids == 0 then return 0, {} end
  local found = call('HMGET', runs_key, unpack(ids))
  local ready, runs, held = {}, {}, {}
  for i, id in ipairs(ids) do
    local run = parse_run(found[i])
    held[i] = run.worker .. '\0' .. id
    if string.sub(run.token, 1, 1) ~= '!' then
      if how == 'l' then run.losses = run.losses + 1 else run.attempts = math.max(run.attempts - 1, 0) end
      ready[#ready + 1] = integer(run.rank)
      ready[#ready + 1] = id
      close_run(run, how, now)
      run.token = '!' -- `!token` is of a run that was settled, and a late verdict on this one must be refused
      runs[#runs + 1] = id
      runs[#runs + 1] = format_run(run)
    end
  end
  write('ZADD', queue.ready, ready)
  write('HSET', runs_key, runs)
  return #ready / 2, held
end

local function take_back_expired(queue, runs_key, held_key, now, most, counts)
  local ids = call('ZRANGEBYSCORE', queue.leased, '-inf', now, 'LIMIT', 0, most)
  local lost, held = give_back(queue, ids, runs_key, 'l', now)
  write('ZREM', held_key, held)
  write('ZREM', queue.leased, ids)
  if lost > 0 then count(counts, queue.name .. '|*', 'lost', lost) end
  return #ids
end

-- Both for all queues, at most BATCH_MAX jobs of each kind in one call. Answers whether more may be overdue, and sets each queue's `moved`.
local function move_overdue(queues, runs_key, held_key, now, counts)
  local due, expired = BATCH_MAX, BATCH_MAX
  for _, queue in ipairs(queues) do
    local promoted = due > 0 and promote(queue, runs_key, now, due) or 0
    local lost = expired > 0 and take_back_expired(queue, runs_key, held_key, now, expired, counts) or 0
    due, expired = due - promoted, expired - lost
    queue.moved = promoted + lost > 0
  end
  return due == 0 or expired == 0
end

-- The earliest time at which something here changes by itself: a job comes due or a lease ends. -1 for never.
local function next_due(queues)
  local earliest = -1
  for _, queue in ipairs(queues) do
    for _, key in ipairs({ queue.delayed, queue.leased }) do
      local head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
      if head[2] and (earliest < 0 or tonumber(head[2]) < earliest) then earliest = tonumber(head[2]) end
    end
  end
  return earliest
end

-- Five arguments an item: queue index, id, record, priority ('' for the default), when ('' now, '+ms' later, 'ms' at).
-- Answers 1 for each id that is new or was sent with this very record, 0 for one that exists with another record.
local function enqueue(first, last, queues, now, jobs_key, runs_key, blobs_key, counts)
  local ids, codes, records, stubs, orphans, seen, moves = {}, {}, {}, {}, {}, {}, {}
  for i = first, last, 5 do ids[#ids + 1] = ARGV[i + 1] end
  if #ids == 0 then return codes, ids end
  local existing = call('HMGET', jobs_key, unpack(ids))
  for k, id in ipairs(ids) do
    local base = first + (k - 1) * 5
    local record, when = ARGV[base + 2], ARGV[base + 4]
    local old = existing[k] or seen[id]
    codes[k] = (not old or old == record) and 1 or 0
    if old then
      if old ~= record then orphans[#orphans + 1] = blob_of(id, record) end
    else
      seen[id] = record
      local queue = queues[tonumber(ARGV[base])]
      local move = moves[queue] or { ready = {}, delayed = {}, head = math.huge }
      moves[queue] = move
      local priority = ARGV[base + 3] == '' and DEFAULT_PRIORITY or tonumber(ARGV[base + 3])
      local at = when == '' and now or tonumber(when)
      if string.sub(when, 1, 1) == '+' then at = now + at end
      if at <= now then
        move.ready[#move.ready + 1] = integer(rank_of(priority, now))
        move.ready[#move.ready + 1] = id
      else
        at = math.ceil(at)
        move.head = math.min(move.head, at)
        move.delayed[#move.delayed + 1] = at
        move.delayed[#move.delayed + 1] = id
        if priority ~= DEFAULT_PRIORITY then
          stubs[#stubs + 1] = id
          stubs[#stubs + 1] = '! - ' .. integer(rank_of(priority, at)) .. ' 0 0 0 0 '
        end
      end
      records[#records + 1] = id
      records[#records + 1] = record
      count(counts, queue.name .. '|' .. actor_of(record), 'sent')
    end
  end
  write('HSET', runs_key, stubs)
  for queue, move in pairs(moves) do
    local head = move.head < math.huge and call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')[2]
    if #move.ready > 0 or (move.head < math.huge and not (head and tonumber(head) <= move.head)) then wake(queue) end
    write('ZADD', queue.ready, move.ready)
    write('ZADD', queue.delayed, move.delayed)
  end
  -- The record last: an id without one is dropped by claim and sent again by its sender; a record without a place would be lost.
  write('HSET', jobs_key, records)
  write('HDEL', blobs_key, orphans)
  return codes, ids
end
