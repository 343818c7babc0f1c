-- Gates: limits of rate and of concurrency, their state, and the lanes in which jobs wait for them. Used by whatever enqueues, claims or
-- settles a job that has gates, and by explain, which only looks.
gates = lazily(function()
  local WINDOW_SLICES = 64 -- a rate's window is counted in so many slices

  -- What this call has read: the gates of a flow, limits by rule; states, numbers of holders, who leaves and who waits first, by lane.
  local gates_seen, limits, states, holding, leaving, crowds, rules_seen, lanes_seen, passes = {}, {}, {}, {}, {}, {}, {}, {}, {}
  local has_come, marked = {}, {} -- lanes to which somebody has come in this call, before it is written; those that it has marked since

  -- All lanes of a rule lie together.
  local function lanes_of_rule(rule)
    rules_seen[rule] = rules_seen[rule] or string.sub(redis.sha1hex(rule), 1, 8)
    return rules_seen[rule]
  end

  local function lane_of_gate(name)
    lanes_seen[name] = lanes_seen[name] or lanes_of_rule(string.match(name, '^([^=]*)')) .. string.sub(redis.sha1hex(name), 1, 12)
    return lanes_seen[name]
  end

  -- What a call has found out about a gate for many jobs: how many places or tokens are free for whoever comes, since nobody waits there; when
  -- it opens for those of one cost.
  local function pass_of(lane)
    passes[lane] = passes[lane] or { free = 0 }
    return passes[lane]
  end

  -- Where those of a rate wait that cost more than there ever is, apart by cost: in the way of none that costs less.
  local function lane_beyond(gate)
    return lanes_of_rule(gate.rule) .. string.format('=%011.0f', gate.cost)
  end

  -- The lane of the gate at which a lane is: its own, or that of a tenant there. Nil for those of actors (12 characters) and tenants (16).
  local function gate_of_lane(lane)
    return #lane >= 20 and string.sub(lane, 1, 20) or nil
  end

  local function gates_of(flow)
    local found = gates_seen[flow]
    if found then return found end
    found = {}
    gates_seen[flow] = found
    local items = facts_of(flow).gates or {}
    for i = 1, #items, 2 do
      local name, cost = string.match(items[i + 1], '^([^*]+)%*?(%d*)$')
      local lane = lane_of_gate(name)
      found[#found + 1] = {
        kind = items[i], name = name, rule = string.match(name, '^([^=]*)'), lane = lane, cost = tonumber(cost) or 1, has_cost = cost ~= '',
        pass = pass_of(lane),
      }
    end
    return found
  end

  -- The limit of a rule, changed by hand or declared: `most`, or `most window_ms burst`. A rule that nobody declared holds nothing back.
  local function limit_of(rule)
    local limit = limits[rule]
    if limit == nil then
      local specs = call('HMGET', RULES, rule, rule .. '!')
      local most, window_ms, burst = string.match(specs[2] or specs[1] or '', '^(%d+) ?(%d*) ?(%d*)$')
      limit = most and { most = tonumber(most), window_ms = tonumber(window_ms), burst = tonumber(burst) } or false
      limits[rule] = limit
    end
    return limit
  end

  -- The state of a gate is `hold_ms full_ms end_ms:tokens end_ms:tokens ...`: held back until, the time at which its burst is whole again,
  -- and what was taken in each slice of the window, under the slice's end.
  local function state_of(gate)
    local state = states[gate.lane]
    if state then return state end
    local stored = call('HGET', GATES, gate.lane) or '0 0'
    local hold, full, slices = string.match(stored, '^(%S+) (%S+) ?(.*)$')
    state = { hold = tonumber(hold), full = tonumber(full), slices = {} }
    for ends, tokens in string.gmatch(slices, '(%d+):(%d+)') do
      state.slices[#state.slices + 1] = { ends = tonumber(ends), tokens = tonumber(tokens) }
    end
    states[gate.lane] = state
    return state
  end

  -- A slice counts until a whole window after its end, and one slice more: a start may follow its claim by as much and break no limit.
  local function slice_ms(limit)
    return math.max(math.floor(limit.window_ms / WINDOW_SLICES), 1)
  end

  local function counts_until(limit, slice)
    return slice.ends + limit.window_ms + slice_ms(limit)
  end

  local function tokens_taken(limit, state, now)
    if not state.taken then
      state.taken = 0
      for _, slice in ipairs(state.slices) do
        if counts_until(limit, slice) > now then state.taken = state.taken + slice.tokens end
      end
    end
    return state.taken
  end

  -- The time at which a rate lets `cost` tokens through: 0 for now, never when they are more than the limit.
  local function tokens_at(limit, state, cost, now)
    if cost > limit.most then return math.huge end
    local needed, at = tokens_taken(limit, state, now) + cost - limit.most, 0
    for _, slice in ipairs(needed > 0 and state.slices or {}) do
      if needed <= 0 then break end
      if counts_until(limit, slice) > now then
        needed = needed - slice.tokens
        at = counts_until(limit, slice)
      end
    end
    -- Where the burst is the whole limit, the slices alone say it all.
    if limit.burst < limit.most then
      local token_ms = limit.window_ms / limit.most
      at = math.max(at, math.max(state.full, now) + (cost - math.max(limit.burst, cost)) * token_ms)
    end
    return at <= now and 0 or math.ceil(at)
  end

  local function holders_of(gate)
    local count = holding[gate.lane]
    if not count then
      count = call('ZLEXCOUNT', HOLDERS, '[' .. gate.lane .. '\0', '(' .. gate.lane .. '\1')
      -- Those that leave in this very call have freed their places for what it enqueues.
      for _, member in ipairs(leaving[gate.lane] or {}) do
        if call('ZSCORE', HOLDERS, member) then count = count - 1 end
      end
      holding[gate.lane] = count
    end
    return count
  end

  -- When a gate lets a job through: 0 for now, math.huge for when somebody opens it.
  local function opens_at(gate, now)
    if is_paused('g', gate.name) then return math.huge end
    local limit, state = limit_of(gate.rule), state_of(gate)
    local held_until = state.hold > now and state.hold or 0
    if not limit then return held_until end
    if gate.kind == 'c' then return holders_of(gate) >= limit.most and math.huge or held_until end
    return math.max(held_until, tokens_at(limit, state, gate.cost, now))
  end

  -- How much an open gate lets through before it has to be looked at again.
  local function free_of(gate, now)
    local limit = limit_of(gate.rule)
    if not limit then return math.huge end
    if gate.kind == 'c' then return limit.most - holders_of(gate) end
    return limit.burst < limit.most and 0 or limit.most - tokens_taken(limit, state_of(gate), now)
  end

  -- By what those who come later to a lane are measured: the first who waits there. Tenants take turns: only who has a higher priority comes
  -- before one of them. Those of nobody lie before all tenants, whatever their priority.
  local function first_in(queue, lane)
    local of, rank, id = string.match(first_waiter(queue, lane) or '', '^([^%z]*)%z(%d+)%z(.*)$')
    if not of then return math.huge, '' end
    local tenant = #of > #lane and of or first_waiter(queue, lane .. 't')
    local band_rank = tenant and string.sub(tenant, #lane + 2, #lane + 2) * PRIORITY_STEP or math.huge
    if #of > #lane or band_rank + PRIORITY_STEP <= tonumber(rank) then return band_rank, id end
    return tonumber(rank), id
  end

  -- Who is first in a lane, and when it is looked at again.
  local function crowd_of(queue, lane)
    local crowd = crowds[lane]
    if not crowd then
      crowd = { at = tonumber(call('ZSCORE', queue.opens, lane) or math.huge) }
      crowd.rank, crowd.id = first_in(queue, lane)
      crowds[lane] = crowd
    end
    return crowd
  end

  -- When a lane that this call does not serve is looked at again, if somebody waits there who comes before this job; nil when nobody is to
  -- be overtaken.
  local function crowded_until(queue, lane, id, rank)
    if seen.looked[lane] then return nil end
    local crowd = crowd_of(queue, lane)
    return comes_before(crowd.rank, crowd.id, rank, id) and crowd.at or nil
  end

  local function lane_to_wait_in(gate)
    local limit = gate.kind == 'r' and limit_of(gate.rule)
    return limit and gate.cost > limit.most and lane_beyond(gate) or gate.lane
  end

  -- The first gate of a job that is closed, when it opens, and the lane in which to wait. A job that comes from a gate's lane stands there
  -- with good right; to every other one the gate is closed, too, while those wait for it that come first.
  local function first_closed(queue, id, flow, from, rank, now)
    local found = gates_of(flow)
    for i = 1, #found do
      local gate = found[i]
      local pass = gate.pass
      if pass.free < gate.cost then
        local at = pass.shut_cost == gate.cost and pass.shut_until or opens_at(gate, now)
        if at > 0 then pass.shut_cost, pass.shut_until = gate.cost, at end
        if at == 0 and gate.lane ~= from then at = crowded_until(queue, gate.lane, id, tonumber(rank)) or 0 end
        if at > 0 then return gate, at, lane_to_wait_in(gate) end
        pass.free = crowd_of(queue, gate.lane).id == '' and free_of(gate, now) or 0
      end
    end
  end

  -- A job stands in a lane that is to be looked at at this time, unless it is earlier.
  local function look_again(queue, lane, id, rank, at)
    local crowd = crowd_of(queue, lane)
    if comes_before(rank, id, crowd.rank, crowd.id) then crowd.rank, crowd.id = rank, id end
    crowd.at = math.min(at, crowd.at)
    pass_of(lane).free, has_come[lane], marked[lane] = 0, true, nil
    if at < math.huge and call('ZADD', queue.opens, 'LT', 'CH', at, lane) == 1 then wake(queue) end
  end

  -- Take `tokens` (less than 0 to give some back) out of the slice in which `ms` lies.
  local function take_tokens(gate, limit, tokens, ms, now)
    local state, length, kept = state_of(gate), slice_ms(limit), {}
    local ends = (math.floor(ms / length) + 1) * length
    state.full = math.max(state.full, now) + tokens * limit.window_ms / limit.most
    state.taken, state.newest = nil, nil
    gate.pass.free, gate.pass.shut_cost = gate.pass.free - math.max(tokens, 0), nil
    seen.changed[gate.lane] = limit
    local found
    for _, slice in ipairs(state.slices) do
      if slice.ends == ends then
        slice.tokens = math.max(slice.tokens + tokens, 0)
        found = slice
      end
      if slice.tokens > 0 and counts_until(limit, slice) > now then kept[#kept + 1] = slice end
    end
    if not found and tokens > 0 then
      found = { ends = ends, tokens = tokens }
      kept[#kept + 1] = found
    end
    table.sort(kept, function(a, b) return a.ends < b.ends end)
    state.slices = kept
    if ms == now and tokens > 0 then state.newest = found end
  end

  -- Tokens for one more job that begins now, out of the slice from which this call took some before, and which it has not written yet.
  local function take_more(gate, limit, state)
    local cost, newest = gate.cost, state.newest
    newest.tokens = newest.tokens + cost
    state.taken = state.taken and state.taken + cost
    state.full = state.full + cost * limit.window_ms / limit.most
    gate.pass.free = gate.pass.free - cost
  end

  local function enter(id, flow, now, holders)
    local found = gates_of(flow)
    for i = 1, #found do
      local gate = found[i]
      local lane = gate.lane
      if gate.kind == 'c' then
        holding[lane] = holding[lane] and holding[lane] + 1
        gate.pass.free = gate.pass.free - 1
        push(holders, '0', lane .. '\0' .. id)
      else
        local limit, state = limit_of(gate.rule), states[lane]
        if limit and state and state.newest then
          take_more(gate, limit, state)
        elseif limit then
          take_tokens(gate, limit, gate.cost, now, now)
        end
      end
    end
  end

  -- In short, where all gates of a job are known to be open for whoever comes. Answers whether they are.
  local function pass(id, flow, now, holders)
    local found = gates_of(flow)
    for i = 1, #found do
      local gate = found[i]
      if gate.pass.free < gate.cost then return false end
    end
    enter(id, flow, now, holders)
    return true
  end

  -- Whatever frees a gate sets an open mark on its lane, if somebody waits there.
  local function mark_open(queue, lane, now)
    if marked[lane] then return end
    marked[lane] = true
    if not has_come[lane] and not has_waiters(queue, lane) then return end
    call('ZADD', queue.opens, now, lane)
    if crowds[lane] then crowds[lane].at = now end
    queue.is_plain = false
    wake(queue)
  end

  -- The job holds its gates no longer: answers its entries in holders, for the caller to remove.
  local function leave(queue, id, flow, now, holders)
    local found = gates_of(flow)
    for i = 1, #found do
      local gate = found[i]
      if gate.kind == 'c' then
        local lane, member = gate.lane, gate.lane .. '\0' .. id
        local beside = leaving[lane] or {}
        holding[lane], leaving[lane], gate.pass.shut_cost = nil, beside, nil
        beside[#beside + 1] = member
        holders[#holders + 1] = member
        mark_open(queue, lane, now)
      end
    end
  end

  local function hold_back(gate, till)
    local state = state_of(gate)
    state.hold = math.max(state.hold, till)
    gate.pass.free, gate.pass.shut_cost = 0, nil
    seen.changed[gate.lane] = limit_of(gate.rule)
  end

  local function write_states(now)
    for lane, limit in pairs(seen.changed) do
      local state, void = states[lane], now
      state.newest = nil
      local parts = { integer(state.hold), integer(math.ceil(state.full)) }
      for _, slice in ipairs(state.slices) do
        parts[#parts + 1] = integer(slice.ends) .. ':' .. integer(slice.tokens)
        void = math.max(void, limit and counts_until(limit, slice) or now)
      end
      call('ZADD', GATES_VOID, math.ceil(math.max(void, state.hold, state.full)), lane) -- first: a state without it would stay for ever
      call('HSET', GATES, lane, table.concat(parts, ' '))
    end
    seen.changed = {}
  end

  return {
    lanes_of_rule = lanes_of_rule, lane_of_gate = lane_of_gate, lane_beyond = lane_beyond, gate_of_lane = gate_of_lane, gates_of = gates_of,
    limit_of = limit_of, state_of = state_of, tokens_taken = tokens_taken, holders_of = holders_of, first_closed = first_closed,
    look_again = look_again, take_tokens = take_tokens, enter = enter, pass = pass, leave = leave, mark_open = mark_open, hold_back = hold_back,
    write_states = write_states,
  }
end)
