-- Tell what keeps a job from being leased now, by the very rules that claim goes by; changes nothing.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms id actors (those of the live workers of its queue)
-- RETURNS   state ('' when there is no such job), queue, score, record, run, result, then facts: name, count of values, values
--           (paused: q, a or g and a name, who; missing: actor; gate: kind, name, opens_at (-1: when somebody frees it), limit, taken,
--           held_until, ids of up to ten that hold it; apart: in how many deaths of workers it ran; behind: how many wait before it at this
--           gate; line: place, of how many)
-- INVARIANT read-only; a job with no fact but `line` and `behind` is what the next claim leases, in its turn
local now, id, actors = clock(ARGV[1]), ARGV[2], ARGV[3]
local queues = given_queues()

local HOLDERS_MAX, BEFORE_MAX = 10, 100 -- the most holders that are named; the most in each lane who are asked whether they come before
local record, run = call('HGET', JOBS, id), call('HGET', RUNS, id)
local facts = {}

local function tell(name, ...)
  local values = { ... }
  facts[#facts + 1] = name
  facts[#facts + 1] = integer(#values)
  for _, value in ipairs(values) do facts[#facts + 1] = value end
end

local function tell_pause(what)
  if is_paused(string.sub(what, 1, 1), string.sub(what, 2)) then tell('paused', string.sub(what, 1, 1), string.sub(what, 2), call('HGET', CONTROL, what)) end
end

local function tell_gate(gate, at)
  local limit, state, taken, ids = gates().limit_of(gate.rule), gates().state_of(gate), 0, {}
  if gate.kind == 'c' then
    taken = gates().holders_of(gate)
    ids = call('ZRANGEBYLEX', HOLDERS, '[' .. gate.lane .. '\0', '(' .. gate.lane .. '\1', 'LIMIT', '0', HOLDERS_MAX)
    for i, member in ipairs(ids) do ids[i] = string.sub(member, #gate.lane + 2) end
  elseif limit then
    taken = gates().tokens_taken(limit, state, now)
  end
  if is_paused('g', gate.name) then return tell_pause('g' .. gate.name) end
  tell('gate', gate.kind, gate.name, at < math.huge and integer(at) or '-1',
    (call('HGET', RULES, gate.rule .. '!') or call('HGET', RULES, gate.rule) or ''), integer(taken), integer(state.hold), unpack(ids))
end

local function count_in_lane(queue, lane, member)
  local low = '[' .. lane .. '\0'
  return call('ZLEXCOUNT', queue.lanes, low, '(' .. member), call('ZLEXCOUNT', queue.lanes, low, '(' .. lane .. '\1')
end

local function tell_line(queue, state, member)
  if state == 'ready' then
    tell('line', integer(call('ZRANK', queue.ready, id) + 1), integer(call('ZCARD', queue.ready)))
    return
  end
  local lane = string.match(member, '^[^%z]*')
  local before, all = count_in_lane(queue, lane, member)
  local at_gate = gates().gate_of_lane(lane) ~= nil
  tell(at_gate and 'behind' or 'line', integer(at_gate and before or before + 1), integer(all))
end

-- What holds the first in a gate's lane at that gate holds those behind it, too.
local function hold_of_first(queue, lane)
  local first = turns().first_at(queue, lane)
  if not first or first.id == id then return nil end
  local actor, flow = actor_of(call('HGET', JOBS, first.id)), flow_of(call('HGET', RUNS, first.id))
  local why, gate, at, stands_in = hold(queue, first.id, actor, actors, flow, lane, first.rank, now)
  if stands_in == lane then return why, gate, at end
end

-- Nobody looks at a gate's lane before its mark, which is of the first that waits there.
local function unlooked(queue, flow, lane)
  local mark = tonumber(call('ZSCORE', queue.opens, lane) or math.huge)
  if mark <= now then return nil end
  for _, gate in ipairs(gates().gates_of(flow)) do
    if gate.lane == lane or gates().lane_beyond(gate) == lane then return 'gate', gate, mark end
  end
end

-- Who comes before it, in ready or in an open lane, and is held at a gate of both, is not passed there.
local function held_before(queue, flow)
  local line, shared = turns().first_ready(queue, BEFORE_MAX), {}
  for _, lane in ipairs(turns().open_lanes(queue, actors, now)) do turns().add_waiters(line, queue, lane, BEFORE_MAX) end
  for _, gate in ipairs(gates().gates_of(flow)) do shared[gate.lane] = true end
  for _, other in ipairs(turns().by_rank(line)) do
    if other.id == id then return nil end
    local theirs, actor = flow_of(call('HGET', RUNS, other.id)), actor_of(call('HGET', JOBS, other.id) or '')
    local why, gate, at, stands_in = hold(queue, other.id, actor, actors, theirs, other.lane, other.rank, now)
    if shared[stands_in] then return why, gate, at end
  end
end

local function tell_why(queue, state, rank, member)
  local actor, flow = actor_of(record), flow_of(run)
  local lane = state == 'lanes' and string.match(member, '^[^%z]*') or nil
  tell_pause('q' .. queue.name)
  local gate_lane = lane and gates().gate_of_lane(lane)
  local why, gate, at = hold(queue, id, actor, actors, flow, gate_lane or lane, rank, now)
  if not why and gate_lane then why, gate, at = unlooked(queue, flow, gate_lane) end
  if not why and has_gates(flow) and call('EXISTS', queue.turns) == 0 and not (lane and suspects().is_of_suspects(lane)) then
    why, gate, at = held_before(queue, flow)
  elseif not why and gate_lane then
    why, gate, at = hold_of_first(queue, gate_lane) -- among tenants, who else comes before depends on how much the next claim takes
  end
  if why == 'missing' then tell('missing', actor) end
  if why == 'paused' then tell_pause('a' .. actor) end
  if why == 'gate' then tell_gate(gate, at) end
  local deaths = not why and flow ~= '-' and facts_of(flow).deaths and suspects().judge(parse_run(run)) or 0
  if deaths > 0 and deaths < suspects().PROVEN then tell('apart', integer(deaths)) end
  tell_line(queue, state, member)
end

local function place()
  for _, ended in ipairs({ { 'completed', COMPLETED }, { 'failed', FAILED }, { 'cancelled', CANCELLED } }) do
    local score = call('ZSCORE', ended[2], id)
    if score then return ended[1], '', score end
  end
  for _, queue in ipairs(queues) do
    local state, score, member = moves().find(queue, id, record, run)
    if state then
      if state == 'ready' or state == 'lanes' then tell_why(queue, state, score, member) end
      if state == 'delayed' then tell_pause('q' .. queue.name) end
      return state, queue.name, score
    end
  end
  return '', '', ''
end

if not record then return { '', '', '', '', '', '' } end
local state, queue, score = place()
return { state, queue, score, record, run or '', call('HGET', RESULTS, id) or '', unpack(facts) }
