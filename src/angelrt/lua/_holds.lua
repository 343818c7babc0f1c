-- What holds jobs back and what time moves, and the library that both need: behind the prelude of the verbs that need any of it.

-- Functions that are made when they are first needed: a call that meets no gate, no tenant and nothing overdue does not pay for them.
local function lazily(make)
  local made
  return function()
    made = made or make()
    return made
  end
end

-- What one call has read of pauses, actors and gates; `changed` are the states of gates that are to be written, `nobody` the first ranks of
-- jobs without a tenant that it has put into gates' lanes.
local seen = { paused = {}, holds = {}, changed = {}, looked = {}, weights = {}, nobody = {} }

-- q, a or g and the name of a queue, actor or gate; behind a d where it is drained.
local function is_paused(kind, name)
  if seen.controlled == nil then seen.controlled = call('EXISTS', CONTROL) == 1 end
  if not seen.controlled then return false end
  local what = kind .. name
  if seen.paused[what] == nil then seen.paused[what] = call('HEXISTS', CONTROL, what) == 1 end
  return seen.paused[what]
end

-- What a step of priority is worth in ranks: more than any time, or as long as the queue's aging says.
local function step_of(queue)
  if not queue.step then
    local aging_ms = tonumber(call('HGET', RULES, 'aging ' .. queue.name) or '')
    queue.ages = aging_ms ~= nil
    queue.step = aging_ms and aging_ms * TICKS_PER_MS or PRIORITY_STEP
  end
  return queue.step
end

local function rank_of(queue, priority, ms)
  return priority * step_of(queue) + math.floor((ms - EPOCH_MS) * TICKS_PER_MS)
end

-- The library: gates, turns, suspects and moves, whose functions are made when a call first asks for one of them. To make a function costs as
-- much as a page of what it does, and most calls need none of these.
local gates, turns, suspects, moves, make_library
gates = function() make_library() return gates() end
turns = function() make_library() return turns() end
suspects = function() make_library() return suspects() end
moves = function() make_library() return moves() end

-- What keeps all jobs of an actor from a worker that knows `actors`, or false.
local function hold_of_actor(actor, actors)
  local why = seen.holds[actor]
  if why == nil then
    why = not string.find(actors, '\0' .. actor .. '\0', 1, true) and 'missing' or is_paused('a', actor) and 'paused'
    seen.holds[actor] = why
  end
  return why
end

-- What keeps a job from being leased by a worker that knows `actors` (each between NULs): nil for nothing; missing or paused, its actor;
-- gate, the first of its gates that is closed, when it opens, and the lane in which to wait. `from` is the lane in which it stands.
local function hold(queue, id, actor, actors, flow, from, rank, now)
  local why = hold_of_actor(actor, actors)
  if why then return why end
  if not has_gates(flow) then return nil end
  local gate, at, lane = gates().first_closed(queue, id, flow, from, rank, now)
  if gate then return 'gate', gate, at, lane end
end

-- All that time moves, in all queues, at most BATCH_MAX jobs of each kind in one call. Answers whether more may be overdue, and whether more
-- may have expired, so that nothing may be begun. Sets each queue's `is_plain` where no lane may open, nobody takes turns and nothing
-- expires: the common case, in one command. With `wakes`, somebody else is to claim what moves: he is woken first, since a call that broke
-- off, and is sent again, would find nothing left to move.
local function move_overdue(queues, now, counts, wakes)
  local due_max, ended_max, late_max, till = BATCH_MAX, BATCH_MAX, BATCH_MAX, exact(now)
  for _, queue in ipairs(queues) do
    queue.is_plain = call('EXISTS', queue.expires, queue.opens, queue.turns) == 0
    local late = not queue.is_plain and late_max > 0 and call('ZRANGEBYSCORE', queue.expires, '-inf', till, 'LIMIT', '0', late_max < BATCH_MAX and late_max or BATCH) or {}
    if #late > 0 then moves().expire(queue, late, now, counts) end
    local due = due_max > 0 and call('ZRANGEBYSCORE', queue.delayed, '-inf', till, 'WITHSCORES', 'LIMIT', '0', due_max < BATCH_MAX and due_max or BATCH) or {}
    local ended = ended_max > 0 and call('ZRANGEBYSCORE', queue.leased, '-inf', till, 'WITHSCORES', 'LIMIT', '0', ended_max < BATCH_MAX and ended_max or BATCH) or {}
    local lost = #ended > 0 and moves().spare_late(queue, ended, now) or {}
    if wakes and #due + #lost > 0 then wake(queue) end
    if #due > 0 then moves().promote(queue, due) end
    if #lost > 0 then moves().take_back_expired(queue, lost, now, counts) end
    due_max, ended_max, late_max = due_max - #due / 2, ended_max - #ended / 2, late_max - #late
  end
  return due_max == 0 or ended_max == 0 or late_max == 0, late_max == 0
end

-- The earliest time at which something here changes by itself: a job comes due or expires, a lease ends, a lane may open. -1 for never.
local function next_due(queues, now)
  local earliest = math.huge
  for _, queue in ipairs(queues) do
    earliest = math.min(earliest, tonumber(call('ZRANGE', queue.delayed, '0', '0', 'WITHSCORES')[2] or math.huge))
    earliest = math.min(earliest, tonumber(call('ZRANGE', queue.leased, '0', '0', 'WITHSCORES')[2] or math.huge))
    if not queue.is_plain then
      local opens = call('ZRANGEBYSCORE', queue.opens, string.format('(%.3f', now), '+inf', 'WITHSCORES', 'LIMIT', '0', '1')
      earliest = math.min(earliest, tonumber(opens[2] or math.huge))
      earliest = math.min(earliest, tonumber(call('ZRANGE', queue.expires, '0', '0', 'WITHSCORES')[2] or math.huge))
    end
  end
  return earliest < math.huge and math.ceil(earliest) or -1
end
