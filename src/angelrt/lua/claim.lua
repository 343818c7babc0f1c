-- Move what is overdue, then lease to one worker, under one token, what is first in line in ready and in open lanes.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max worker token lease_ms capacity actors how free looked_ms
--           (how: w after a wait for the marker, r when it is sent again, - else; looked_ms: now_ms of this worker's last claim, 0 for its
--           first)
-- RETURNS   now_ms, next_due_ms or -1, again (1: more is claimable; 2: suspects wait, take no more until you hold nothing), the names of
--           missing actors met here, then per job: id queue rank record lease
--           (lease: `token attempts flow history` of the run, which is all that a worker needs of it)
-- INVARIANT a token, an entry in held and an entry in leased exist together, and so do those in holders; a call repeated with its token
--           and how = r leases nothing twice
local now, events_max, worker, token, lease_ms = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local capacity, actors, resend, free, looked = tonumber(ARGV[6]), ARGV[7], ARGV[8] == 'r', tonumber(ARGV[9]), tonumber(ARGV[10])
local queues = given_queues()

local CALLED_MAX = 250 -- the most jobs of one actor that go back in line in one call, where tenants take turns

local counts, reply, granted_count, has_granted, missing, missing_seen, examined = {}, { '', '', 0, {} }, 0, {}, {}, {}, 0
local closed = {}       -- lanes whose own first waiter met a closed gate, with the time at which it opens
local joined = {}       -- lanes that somebody joined in this call, with the time at which the gate opens for the first who did
local exhausted = false -- the call has stopped before it had seen everything
local together = 0      -- suspects that this call has leased; as many as ever run together where one is alone
local makes_room = false
local has_suspects = false -- among what this token holds already
local deadline = whole_ms(now + lease_ms) -- as text, like all that is written for each job: Redis prints a number anew each time
local started = whole_ms(now) -- in the slice of a rate in which its tokens are taken
local run_head, first_run_tail, held_head = token .. ' ' .. worker .. ' ', ' 1 1 0 ' .. started .. ' ', worker .. '\0'

local function is_own(run)
  return resend and run and string.sub(run, 1, #token + 1) == token .. ' '
end

local function grant(index, id, rank, record, lease)
  if has_granted[id] then return end
  has_granted[id] = true
  local n = REPLY_HEAD + granted_count * JOB_FIELDS
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, index, rank, record, lease
  granted_count = granted_count + 1
end

-- A first run, and what the answer tells of it.
local function first_run(rank, flow)
  return run_head .. rank .. first_run_tail .. flow .. ' ', token .. ' 1 ' .. flow .. ' '
end

local function lease_of(run)
  return run.token .. ' ' .. run.attempts .. ' ' .. run.flow .. ' ' .. run.history
end

-- The rank as a worker reads it. Where priorities age, ranks are low: they have no more digits than a step of priority.
local function told_rank(index, rank, run)
  return #rank > 15 and rank or turns().strict_rank(queues[index], rank, flow_of(run))
end

local function lease(index, id, rank, record, run, change, leased_run, told)
  push(change.leased, deadline, id)
  push(change.runs, id, leased_run)
  push(change.held, '0', held_head .. id)
  grant(index, id, told_rank(index, rank, run), record, told)
end

-- Made when the first job comes that may have to wait, and when lanes are open or tenants take turns.
local held, lines

-- What place would come to, in short, for a job that nothing holds and that was never delivered. Answers whether it is one.
local function goes_through(index, id, rank, record, run, change)
  local flow = '-'
  if run then
    local is_new
    flow, is_new = flow_of(run)
    if not is_new or granted_count >= free or not facts_of(flow).has_only_gates then return false end
    if not gates().pass(id, flow, now, change.holders) then return false end
  end
  lease(index, id, rank, record, run, change, first_run(rank, flow))
  return true
end

-- Destinations first, the places from which the jobs go last.
local function commit(queue, change, from_ready, members, left_lanes)
  if next(seen.changed) then gates().write_states(now) end -- first: what is charged twice breaks no limit
  if queue.takes_turns then turns().write_charges(queue) end
  write('ZADD', HELD, change.held)
  write('ZADD', queue.leased, change.leased)
  write_lanes(queue, change.lanes)
  write('ZADD', HOLDERS, change.holders)
  write('HSET', RUNS, change.runs)
  for i = 1, #change.started, 2 do turns().release_unique(change.started[i], change.started[i + 1], 's') end
  write('ZREM', queue.expires, change.begun)
  write('HDEL', RUNS, change.gone)
  if from_ready > 0 then call('ZREMRANGEBYRANK', queue.ready, '0', from_ready - 1) end
  write('ZREM', queue.ready, left_lanes) -- a call that broke off may have left them there, too, where one that has ended would run again
  write('ZREM', queue.lanes, members)
  write('HDEL', RUNS, change.ended)
end

-- Serve a line in order. Answers whether the call is full.
local function serve(index, line)
  local queue, full, from_ready, members, left_lanes = queues[index], false, 0, {}, {}
  local records, runs = call('HMGET', JOBS, unpack(line.ids)), call('HMGET', RUNS, unpack(line.ids))
  local change = { leased = {}, held = {}, runs = {}, lanes = {}, holders = {}, begun = {}, started = {}, gone = {}, ended = {}, marked = {} }
  for i, id in ipairs(line.ids) do
    local record, run, waiter, leaves = records[i], runs[i], line.waiters[i], true
    local lane, actor = waiter and waiter.lane, record and actor_of(record)
    if actor and seen.holds[actor] == nil then hold_of_actor(actor, actors) end
    local is_free = actor and not queue.takes_turns and seen.holds[actor] == false
    if lane and closed[lane] then
      leaves = false
    elseif lane and not run then
      leaves = true -- it has ended, and a call that broke off has left it here, too
    elseif not (is_free and goes_through(index, id, line.ranks[i], record, run, change)) then
      leaves = held().place(index, waiter or { id = id, rank = line.ranks[i] }, record, run, change)
    end
    if leaves == nil then
      full = true
      break
    end
    if leaves and lane then members[#members + 1] = waiter.member elseif leaves then from_ready = from_ready + 1 end
    if leaves and lane and has_granted[id] then left_lanes[#left_lanes + 1] = id end
    if queue.has_tenants and not queue.takes_turns then break end -- turns have just begun: who comes next goes by them
  end
  commit(queue, change, from_ready, members, left_lanes)
  return full
end

local function first_ready(queue, most)
  local ids, ranks, ready = {}, {}, call('ZRANGE', queue.ready, '0', most - 1, 'WITHSCORES')
  for i = 1, #ready, 2 do
    ids[#ids + 1] = ready[i]
    ranks[#ids] = digits(ready[i + 1])
  end
  return { ids = ids, ranks = ranks, waiters = {} }
end

-- Jobs that something may hold back.
held = lazily(function()
  -- A run after others, and what the answer tells of it.
  local function next_run(run, rank)
    local parsed = parse_run(run)
    if is_own(run) then return run, lease_of(parsed) end -- taken by this call before it broke off
    parsed.token, parsed.worker, parsed.rank, parsed.started = token, worker, tonumber(rank), started
    if parsed.flow ~= '-' and facts_of(parsed.flow).deaths then suspects().take_account(parsed) end
    parsed.deliveries, parsed.attempts = parsed.deliveries + 1, parsed.attempts + 1
    return format_run(parsed), lease_of(parsed)
  end

  -- A job that stands in a lane keeps its rank in its run, from which its place there is found again.
  local function stand_in(queue, lane, candidate, run, change)
    push(change.lanes, '0', lane_member(lane, candidate.rank, candidate.id))
    queue.is_plain = false
    if run and has_never_run(run) and string.match(run, '^! %- (%d+)') == candidate.rank then return end
    local parsed = parse_run(run)
    parsed.rank = tonumber(candidate.rank)
    push(change.runs, candidate.id, format_run(parsed))
  end

  local function miss(queue, why, actor, change)
    if why == 'missing' and not missing_seen[actor] then
      missing_seen[actor] = true
      missing[#missing + 1] = actor
    end
    if not change.marked[actor] then
      change.marked[actor] = true
      call('ZADD', queue.opens, -now, lane_of(actor))
      wake(queue)
    end
  end

  -- A job that is held stands where that passes. Answers whether it leaves the place where it was.
  local function hold_back(queue, candidate, run, flow, actor, why, lane, at, change)
    if why ~= 'gate' then
      stand_in(queue, lane_of(actor), candidate, run, change)
      miss(queue, why, actor, change)
      return candidate.lane ~= lane_of(actor)
    end
    -- Whoever comes after it, out of this lane or to its gate, does not pass it in this call.
    closed[lane] = closed[lane] or at
    local is_open = seen.looked[lane]
    seen.looked[lane] = nil
    if lane == candidate.lane then return false end
    -- In the order of turns it may come before others of its lane to whom the gate is open, since they need fewer tokens.
    if is_open and queue.takes_turns and string.find(',' .. flow, ',r', 1, true) then at = now end
    if queue.takes_turns then turns().write_charges(queue) end
    local rank, own = tonumber(candidate.rank), nil
    own, at = turns().place_at(queue, lane, flow, rank, at, now)
    joined[lane] = math.min(joined[lane] or math.huge, at)
    stand_in(queue, own, candidate, run, change)
    gates().look_again(queue, lane, candidate.id, rank, at)
    return true
  end

  -- Whether a job that was in a death may be leased now. Suspects are taken from their lane, up to eight together or one alone, and beside
  -- them nothing is leased: nil where the call is full; false for one that now waits in that lane.
  local function may_join(queue, candidate, run, actor, change)
    local deaths, lane = suspects().judge(parse_run(run)), suspects().lane_of_suspects(actor)
    if deaths == 0 or deaths >= suspects().PROVEN then return together == 0 or nil end -- the worker fails it and does not run it
    if candidate.lane ~= lane then
      stand_in(queue, lane, candidate, run, change)
      suspects().open(queue, lane, now)
      return false
    end
    local is_alone = deaths >= suspects().ALONE
    if granted_count > together or together >= (is_alone and 1 or suspects().TOGETHER_MAX) then return nil end
    together = is_alone and suspects().TOGETHER_MAX or together + 1
    return true
  end

  -- Whether a job waited for its actor.
  local function is_of_actor(candidate)
    return candidate.lane and is_actor_lane(candidate.lane)
  end

  -- What a job takes beside a slot. Answers false for one that comes out of ready or an actor's lane: it waits for its tenant's turn.
  local function enter(queue, candidate, run, flow, facts, change)
    local tenant = facts.tenant
    if is_of_actor(candidate) and queue.takes_turns and not tenant then
      call('ZADD', queue.ready, candidate.rank, candidate.id)
      return false
    end
    if tenant and (is_of_actor(candidate) or not candidate.lane) then
      local band = turns().band_of(queue, tonumber(candidate.rank))
      stand_in(queue, turns().lane_of_tenant(tenant, band), candidate, run, change)
      turns().join(queue, turns().lane_of_tenant(tenant, band), band)
      queue.has_tenants = true
      return false
    end
    if facts.gates then gates().enter(candidate.id, flow, now, change.holders) end
    if facts.expires then change.begun[#change.begun + 1] = candidate.id end
    if facts.is_unique then push(change.started, candidate.id, flow) end
    if queue.takes_turns then turns().charge(queue, tenant, candidate) end
    return true
  end

  -- End a job that a call has ended before it broke off.
  local function finish(candidate, run, flow, change)
    moves().write_cancelled({ candidate.id }, { parse_run(run) }, now)
    turns().release_unique(candidate.id, flow, 'f')
    change.ended[#change.ended + 1] = candidate.id
    return true
  end

  -- Lease a candidate, or let it stand where it has to wait. Answers whether it leaves the place where it was; nil when the call is full.
  local function place(index, candidate, record, run, change)
    if not record then
      change.gone[#change.gone + 1] = candidate.id
      return true
    end
    local queue, flow, is_new = queues[index], flow_of(run)
    local facts = facts_of(flow)
    if not is_own(run) then
      if run and not is_new and string.sub(run, 1, 1) ~= '!' then return true end -- leased: a claim that broke off has left it here, too
      if facts.ends then return finish(candidate, run, flow, change) end
      local actor = actor_of(record)
      local why, _, at, lane = hold(queue, candidate.id, actor, actors, flow, candidate.lane, candidate.rank, now)
      if why then return hold_back(queue, candidate, run, flow, actor, why, lane, at, change) end
      if flow ~= '-' or queue.takes_turns then
        local is_called_back = queue.takes_turns and is_of_actor(candidate)
        -- Ahead of its slot, it would hold a gate and not run.
        if granted_count >= free and facts.gates and not is_called_back then return nil end
        local may = not facts.deaths or may_join(queue, candidate, run, actor, change)
        if not may then return may == false or nil end
        if not enter(queue, candidate, run, flow, facts, change) then return true end
      end
    end
    if not run or is_new then
      lease(index, candidate.id, candidate.rank, record, run, change, first_run(candidate.rank, flow))
    else
      lease(index, candidate.id, candidate.rank, record, run, change, next_run(run, candidate.rank))
    end
    return true
  end

  return { place = place }
end)

-- Lanes that are open, and the order among tenants.
lines = lazily(function()
  local function line_of(candidates)
    local line = { ids = {}, ranks = {}, waiters = candidates }
    for i, candidate in ipairs(candidates) do line.ids[i], line.ranks[i] = candidate.id, candidate.rank end
    return line
  end

  -- Where tenants take turns, who waited for an actor of this worker goes back in line; some at a time, so that others are served meanwhile.
  local function call_back(index, lanes)
    local queue = queues[index]
    if queue.has_called_back then return end
    queue.has_called_back = true
    for _, lane in ipairs(lanes) do
      local line = is_actor_lane(lane) and turns().add_waiters({}, queue, lane, CALLED_MAX) or {}
      local is_cut = #line > 0 and serve(index, line_of(line))
      exhausted = exhausted or is_cut or #line == CALLED_MAX
    end
  end

  -- The first `most` of ready, or of the tenants by turns, and of the open lanes: their ids and ranks, and beside them those that stand in lanes.
  local function first_in_line(index, lanes, most)
    local queue, open, waiters = queues[index], {}, {}
    queue.takes_turns = call('ZCARD', queue.turns) > 0
    if queue.takes_turns then call_back(index, lanes) end
    for _, lane in ipairs(lanes) do
      if not closed[lane] then open[#open + 1] = lane end
    end
    if queue.takes_turns then
      local candidates, more = turns().first_by_turns(queue, most, open)
      exhausted = exhausted or more
      return line_of(candidates)
    end
    for _, lane in ipairs(open) do turns().add_waiters(waiters, queue, lane, most) end
    if #waiters == 0 then return first_ready(queue, most) end
    for _, candidate in ipairs(turns().first_ready(queue, most)) do waiters[#waiters + 1] = candidate end
    local candidates = turns().by_rank(waiters)
    for i = #candidates, most + 1, -1 do candidates[i] = nil end
    return line_of(candidates)
  end

  -- After a look: a lane that is empty loses its mark, one whose gate closed keeps the time at which it opens, the others go to the end.
  local function mark_again(queue, lanes)
    for _, lane in ipairs(lanes) do
      local again = closed[lane] and math.min(closed[lane], joined[lane] or math.huge)
      if again and again < math.huge then
        call('ZADD', queue.opens, again, lane)
      elseif closed[lane] or not has_waiters(queue, lane) then
        call('ZREM', queue.opens, lane)
      elseif gates().gate_of_lane(lane) then
        call('ZADD', queue.opens, now, lane)
      end
    end
  end

  -- Suspects, on a worker that holds nothing: in their turn, and when there was nothing else. A busy worker may be asked to make room.
  local function serve_suspects(index, is_turn)
    local queue = queues[index]
    local line, since = suspects().waiters(queue)
    if #line == 0 or granted_count > 0 or capacity <= 0 or (is_turn and since > now) then return end
    if call('ZLEXCOUNT', HELD, '[' .. worker .. '\0', '(' .. worker .. '\1') > 0 then
      makes_room = makes_room or suspects().ask_for_room(queue, since, now)
      return
    end
    for i = #line, math.min(capacity, suspects().TOGETHER_MAX) + 1, -1 do line[i] = nil end
    serve(index, line_of(line))
    if together == 0 then
      -- They went to wait elsewhere; those who came behind them may not have to.
      local first = suspects().waiters(queue)[1]
      queue.has_more = first ~= nil and first.id ~= line[1].id
      return
    end
    for lane in pairs(queue.suspects) do suspects().served(queue, lane, now) end
    capacity = granted_count -- nothing beside
  end

  -- The marker goes to whoever has waited longest. One that lacks the actor of a lane hands it on, once for each time at which the lane is
  -- marked, so that it comes to one that has the actor. A mark of the future is from before the clock was put back: its time comes.
  local function hand_on(queue)
    if is_paused('q', queue.name) then return end
    for _, lane in ipairs(call('ZRANGEBYSCORE', queue.opens, -now, string.format('(%.8f', -looked))) do
      if #lane == ACTOR_LANE and not turns().lanes_of(actors)[lane] then return wake(queue) end
    end
  end

  return { first_in_line = first_in_line, mark_again = mark_again, serve_suspects = serve_suspects, hand_on = hand_on }
end)

-- Answers whether more is claimable here.
local function serve_queue(index, live)
  local queue, full = queues[index], false
  if is_paused('q', queue.name) then return false end
  queue.suspects = {}
  local waiting, lanes = call('ZCARD', queue.ready), queue.is_plain and {} or turns().open_lanes(queue, actors, now)
  -- A call that broke off may have left them in ready, too: one that is sent again looks there first.
  if not resend and next(queue.suspects) then lines().serve_suspects(index, true) end
  local left, before = math.max(capacity - granted_count, 0), granted_count
  local is_line = queue.is_plain or call('EXISTS', queue.opens, queue.turns) == 0 -- ready alone, which workers share
  if is_line and waiting == 0 then return false end
  if is_line then left = math.min(left, math.ceil(waiting / live)) end
  while not full and left > granted_count - before and examined < BATCH_MAX do
    local most = math.min(left - (granted_count - before), BATCH_MAX - examined)
    local line = queue.is_plain and first_ready(queue, most) or lines().first_in_line(index, lanes, most)
    if #line.ids == 0 then break end
    full = serve(index, line)
    examined = examined + #line.ids
  end
  if next(queue.suspects) then lines().serve_suspects(index, false) end
  if queue.is_plain then return call('ZCARD', queue.ready) > 0 end
  local more = #lines().first_in_line(index, lanes, 1).ids > 0
  lines().mark_again(queue, lanes)
  -- Lanes beyond those that one call looks at are as open as before.
  return more or queue.has_more or (#lanes > 0 and #call('ZRANGEBYSCORE', queue.opens, 0, now, 'LIMIT', '0', '1') > 0)
end

-- What a call with this token leased before its answer was lost. Where it broke off between lease and removal, the job still waits, too;
-- where it broke off before the token was written, the lease goes, and the job waits as before.
local function take_up_all()
  local function take_up(index, id, record, run)
    local queue, is_void = queues[index], not run or string.sub(run, 1, 1) == '!'
    if not call('ZSCORE', queue.leased, id) then
      if is_void then call('ZREM', HELD, worker .. '\0' .. id) end -- it may be another one's turn by now
      return
    end
    if is_own(run) then
      local parsed = parse_run(run)
      grant(index, id, told_rank(index, integer(parsed.rank), run), record, lease_of(parsed))
      has_suspects = has_suspects or suspects().is_one(flow_of(run))
      moves().remove_waiting(queue, id, record, run)
      turns().release_unique(id, flow_of(run), 's')
      call('ZREM', queue.expires, id)
    elseif is_void then
      local holders = {}
      if flow_of(run) ~= '-' then gates().leave(queue, id, flow_of(run), now, holders) end
      write('ZREM', HOLDERS, holders)
      call('ZREM', queue.leased, id)
      call('ZREM', HELD, worker .. '\0' .. id)
    end
  end

  local members = call('ZRANGEBYLEX', HELD, '[' .. worker .. '\0', '(' .. worker .. '\1')
  for first = 1, #members, BATCH_MAX do
    local ids = {}
    for i = first, math.min(first + BATCH_MAX - 1, #members) do ids[#ids + 1] = string.sub(members[i], #worker + 2) end
    local runs, records = call('HMGET', RUNS, unpack(ids)), call('HMGET', JOBS, unpack(ids))
    for i, id in ipairs(ids) do
      for index in ipairs(queues) do
        if records[i] then take_up(index, id, records[i], runs[i]) end
      end
    end
  end
end

-- What is overdue moves first: a lease of this very token may have run out before the call was sent again.
local are_late
local stamp = exact(now)
call('ZADD', BEATS, 'XX', stamp, worker) -- who claims is alive, though it has not beaten since it stood still
exhausted, are_late = move_overdue(queues, now, counts)
if resend then take_up_all() end
if has_suspects then capacity = granted_count end -- nothing beside
local again = 0
local live = math.max(call('ZCARD', BEATS), 1)
for index, queue in ipairs(queues) do
  if are_late or serve_queue(index, live) or exhausted then
    again = 1
    wake(queue)
  end
  if not queue.is_plain then lines().hand_on(queue) end
end
write_counts(counts)
tell(reply, granted_count, events_max, worker)
reply[1], reply[2], reply[3], reply[4] = stamp, integer(next_due(queues, now)), makes_room and 2 or again, missing
return reply
