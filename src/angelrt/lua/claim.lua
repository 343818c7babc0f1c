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

local counts, granted, granted_ids, has_granted, parked, parked_seen, examined = {}, {}, {}, {}, {}, {}, 0
local deadline = math.floor(now + lease_ms)
local started = integer(now)

local known = {}
local function knows(actor)
  if known[actor] == nil then known[actor] = string.find(actors, '\0' .. actor .. '\0', 1, true) ~= nil end
  return known[actor]
end

local function is_own(run)
  return run and string.sub(run, 1, #token + 1) == token .. ' '
end

local function grant(index, id, rank, record, run)
  if has_granted[id] then return end
  has_granted[id] = true
  local n = #granted
  granted[n + 1], granted[n + 2], granted[n + 3], granted[n + 4], granted[n + 5] = id, index, rank, record, run
  granted_ids[#granted_ids + 1] = id
end

local function next_run(run, rank)
  if not run then return token .. ' ' .. worker .. ' ' .. rank .. ' 1 1 0 ' .. started .. ' ' end
  if is_own(run) then return run end -- taken by this call before it broke off
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

-- Lease or park each candidate; one whose record is gone is dropped. Answers how many were leased, and the set of those parked.
local function serve(index, ids, ranks)
  local queue, opened, waits = queues[index], {}, {}
  local records, runs = call('HMGET', JOBS, unpack(ids)), call('HMGET', RUNS, unpack(ids))
  local leased, held, written, lanes, gone, before = {}, {}, {}, {}, {}, #granted_ids
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
      waits[id] = true
      lanes[#lanes + 1] = 0
      lanes[#lanes + 1] = lane_member(lane, tonumber(ranks[i]), id)
      written[#written + 1] = id
      written[#written + 1] = waiting_run(runs[i], ranks[i])
      if not opened[lane] then
        opened[lane] = true
        call('ZADD', queue.opens, now, lane)
        wake(queue)
      end
      if not parked_seen[actor] then
        parked_seen[actor] = true
        parked[#parked + 1] = actor
      end
    else
      gone[#gone + 1] = id
    end
  end
  write('ZADD', queue.leased, leased)
  write('ZADD', queue.lanes, lanes)
  write('ZADD', HELD, held)
  write('HSET', RUNS, written)
  write('HDEL', RUNS, gone)
  return #granted_ids - before, waits
end

-- The open lanes of actors that this worker knows, the longest open first.
local function open_lanes(queue)
  if call('ZCARD', queue.opens) == 0 then return {} end
  local lanes, open = {}, {}
  for actor in string.gmatch(actors, '[^%z]+') do lanes[#lanes + 1] = lane_of(actor) end
  if #lanes == 0 then return open end
  local since = call('ZMSCORE', queue.opens, unpack(lanes))
  for i, lane in ipairs(lanes) do
    if since[i] and tonumber(since[i]) <= now then open[#open + 1] = { lane = lane, since = tonumber(since[i]) } end
  end
  table.sort(open, function(a, b) return a.since < b.since or (a.since == b.since and a.lane < b.lane) end)
  return open
end

-- Lease up to `most` jobs out of open lanes; an empty lane loses its mark. Answers how many, and whether some are left.
local function serve_opens(index, most)
  local queue, taken, more = queues[index], 0, false
  for _, open in ipairs(open_lanes(queue)) do
    local lane, room = open.lane, most - taken
    local members = call('ZRANGEBYLEX', queue.lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 0, room + 1)
    if #members == 0 then call('ZREM', queue.opens, lane) end
    if #members > room then
      more = true
      members[#members] = nil
    end
    if #members > 0 then
      local ids, ranks, done = {}, {}, {}
      for i, member in ipairs(members) do
        local rank, id = string.match(member, '^[^%z]*%z(%d+)%z(.*)$')
        ids[i], ranks[i] = id, integer(tonumber(rank))
      end
      local leased, waits = serve(index, ids, ranks)
      for i, member in ipairs(members) do
        if not waits[ids[i]] then done[#done + 1] = member end
      end
      write('ZREM', queue.lanes, done)
      taken = taken + leased
      examined = examined + #ids
    end
  end
  return taken, more
end

-- A score as plain digits: some servers write it with an exponent.
local function digits(score)
  return string.find(score, 'e', 1, true) and integer(tonumber(score)) or score
end

local function serve_ready(index, most)
  local queue, taken = queues[index], 0
  while taken < most and examined < BATCH_MAX do
    local batch = call('ZRANGE', queue.ready, 0, math.min(most - taken, BATCH_MAX - examined) - 1, 'WITHSCORES')
    if #batch == 0 then break end
    local ids, ranks = {}, {}
    for i = 1, #batch, 2 do
      ids[#ids + 1] = batch[i]
      ranks[#ranks + 1] = digits(batch[i + 1])
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
      if is_own(runs[i]) and records[i] then
        local rank = parse_run(runs[i]).rank
        for index, queue in ipairs(queues) do
          if call('ZSCORE', queue.leased, id) then
            grant(index, id, integer(rank), records[i], runs[i])
            -- Where a call broke off between lease and removal, the job still waits, too.
            call('ZREM', queue.ready, id)
            call('ZREM', queue.lanes, lane_member(lane_of(actor_of(records[i])), rank, id))
          end
        end
      end
    end
  end
end

-- What is overdue moves first: a lease of this very token may have run out before the call was sent again.
local exhausted = move_overdue(queues, RUNS, HELD, now, counts)
if resend then held_by_token() end
local again = 0
local live = math.max(call('ZCARD', BEATS), 1)
for index, queue in ipairs(queues) do
  local left = math.max(capacity - #granted_ids, 0)
  local taken, more = serve_opens(index, left)
  left = left - taken
  local waiting = call('ZCARD', queue.ready)
  if left > 0 and waiting > 0 then
    serve_ready(index, math.min(left, math.ceil(waiting / live)))
    waiting = call('ZCARD', queue.ready)
  end
  if waiting > 0 or more or exhausted then
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
