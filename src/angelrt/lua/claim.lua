-- Promote what is due, take back expired leases, then lease ready jobs to one worker under one token.
-- KEYS      jobs runs held beats stats events | per queue: ready delayed leased lanes opens wake
-- ARGV      now_ms events_max worker token lease_ms capacity resend actors
-- RETURNS   now_ms, next_due_ms or -1, again (1: more is claimable), count and names of actors parked here,
--           then per job: id queue rank record run
-- INVARIANT a token, an entry in held and an entry in leased exist together; a call repeated with its token and resend = 1
--           leases nothing twice
local JOBS, RUNS, HELD, BEATS, STATS, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, events_max, worker, token, lease_ms = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local capacity, resend, actors = tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
local queues = queues_from(7)

local OPENS_MAX = 8
local counts, granted, granted_ids, parked, parked_seen, examined = {}, {}, {}, {}, {}, 0
local deadline = math.floor(now + lease_ms)
local started = integer(now)

local function knows(actor)
  return string.find(actors, '\0' .. actor .. '\0', 1, true) ~= nil
end

local function grant(index, id, rank, record, run)
  local n = #granted
  granted[n + 1], granted[n + 2], granted[n + 3], granted[n + 4], granted[n + 5] = id, index, rank, record, run
  granted_ids[#granted_ids + 1] = id
end

local function next_run(run, rank)
  if not run then return token .. ' ' .. worker .. ' ' .. rank .. ' 1 1 0 ' .. started .. ' ' end
  local parsed = parse_run(run)
  parsed.token, parsed.worker, parsed.rank, parsed.started = token, worker, tonumber(rank), started
  parsed.deliveries, parsed.attempts = parsed.deliveries + 1, parsed.attempts + 1
  return format_run(parsed)
end

-- A parked job keeps its rank in its run, from which its place in the lane is found again.
local function waiting_run(run, rank)
  local parsed = parse_run(run)
  parsed.rank = tonumber(rank)
  return format_run(parsed)
end

-- Lease or park each candidate; one whose record is gone is dropped. Answers how many were leased.
local function serve(index, ids, ranks)
  local queue = queues[index]
  local records, runs = call('HMGET', JOBS, unpack(ids)), call('HMGET', RUNS, unpack(ids))
  local leased, held, written, lanes, ranked, before = {}, {}, {}, {}, {}, #granted_ids
  for i, id in ipairs(ids) do
    local record = records[i]
    local actor = record and actor_of(record)
    if actor and knows(actor) then
      local run = next_run(runs[i], ranks[i])
      leased[#leased + 1] = deadline
      leased[#leased + 1] = id
      written[#written + 1] = id
      written[#written + 1] = run
      held[#held + 1] = 0
      held[#held + 1] = worker .. '\0' .. id
      grant(index, id, ranks[i], record, run)
    elseif actor then
      local lane = lane_of(actor)
      lanes[#lanes + 1] = 0
      lanes[#lanes + 1] = lane_member(lane, tonumber(ranks[i]), id)
      written[#written + 1] = id
      written[#written + 1] = waiting_run(runs[i], ranks[i])
      if not parked_seen[actor] then
        parked_seen[actor] = true
        parked[#parked + 1] = actor
        call('ZADD', queue.opens, now, lane)
        wake(queue)
      end
    end
  end
  write('ZADD', HELD, held)
  write('HSET', RUNS, written)
  write('ZADD', queue.leased, leased)
  write('ZADD', queue.lanes, lanes)
  return #granted_ids - before
end

-- Lanes marked open: of those whose actor is known here, lease up to `most`; a lane that is empty loses its mark.
local function serve_opens(index, most)
  local queue, taken = queues[index], 0
  for _, lane in ipairs(call('ZRANGEBYSCORE', queue.opens, '-inf', now, 'LIMIT', 0, OPENS_MAX)) do
    local members = call('ZRANGEBYLEX', queue.lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 0, math.max(most - taken, 1))
    local ids, ranks = {}, {}
    for i, member in ipairs(members) do
      local rank, id = string.match(member, '^[^%z]*%z(%d+)%z(.*)$')
      ids[i], ranks[i] = id, integer(tonumber(rank))
    end
    local record = ids[1] and call('HGET', JOBS, ids[1])
    if #ids == 0 then
      call('ZREM', queue.opens, lane)
    elseif not record or knows(actor_of(record)) then
      if taken < most then
        taken = taken + serve(index, ids, ranks)
        write('ZREM', queue.lanes, members)
        examined = examined + #ids
      end
    end
  end
  return taken
end

local function serve_ready(index, most)
  local queue, taken = queues[index], 0
  while taken < most and examined < BATCH_MAX do
    local batch = call('ZRANGE', queue.ready, 0, math.min(most - taken, BATCH_MAX - examined) - 1, 'WITHSCORES')
    if #batch == 0 then break end
    local ids, ranks = {}, {}
    for i = 1, #batch, 2 do
      ids[#ids + 1] = batch[i]
      ranks[#ranks + 1] = integer(tonumber(batch[i + 1]))
    end
    taken = taken + serve(index, ids, ranks)
    call('ZREMRANGEBYRANK', queue.ready, 0, #ids - 1)
    examined = examined + #ids
  end
  return taken
end

-- What a call with this token leased before its answer was lost.
local function held_by_token()
  local members = call('ZRANGEBYLEX', HELD, '[' .. worker .. '\0', '(' .. worker .. '\1')
  for first = 1, #members, BATCH_MAX do
    local ids = {}
    for i = first, math.min(first + BATCH_MAX - 1, #members) do ids[#ids + 1] = string.sub(members[i], #worker + 2) end
    local runs, records = call('HMGET', RUNS, unpack(ids)), call('HMGET', JOBS, unpack(ids))
    for i, id in ipairs(ids) do
      if runs[i] and string.sub(runs[i], 1, #token + 1) == token .. ' ' then
        for index, queue in ipairs(queues) do
          if call('ZSCORE', queue.leased, id) then grant(index, id, integer(parse_run(runs[i]).rank), records[i], runs[i]) end
        end
      end
    end
  end
end

if resend then held_by_token() end
local again = 0
local live = math.max(call('ZCARD', BEATS), 1)
for index, queue in ipairs(queues) do
  local moved = promote(queue, RUNS, now, BATCH_MAX)
  local lost = take_back_expired(queue, RUNS, HELD, now, BATCH_MAX, counts)
  local left = capacity - #granted_ids
  if left > 0 then left = left - serve_opens(index, left) end
  local waiting = call('ZCARD', queue.ready)
  if left > 0 and waiting > 0 then
    serve_ready(index, math.min(left, math.ceil(waiting / live)))
    waiting = call('ZCARD', queue.ready)
  end
  if waiting > 0 or moved == BATCH_MAX or lost == BATCH_MAX then
    again = 1
    wake(queue)
  end
end
write_counts(STATS, counts)
if #granted_ids > 0 then event(EVENTS, events_max, 'claim', worker, #granted_ids, granted_ids) end

local reply = { string.format('%.3f', now), integer(next_due(queues)), again, #parked }
for _, actor in ipairs(parked) do reply[#reply + 1] = actor end
for i = 1, #granted do reply[#reply + 1] = granted[i] end
return reply
