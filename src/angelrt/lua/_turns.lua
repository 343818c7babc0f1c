-- The order of a queue's jobs beside their rank, and which of them are the same work: aging, turns of tenants, unique keys.
turns = lazily(function()
  local TURN = 16384     -- virtual time of one job at weight 1; a band of priority holds 2^35 of them
  local TURNS_LOOK = 32  -- the most tenants among whom one look divides turns
  local OPENS_MAX = 8    -- the most lanes of gates that one call looks at; the others keep their marks and their turn
  local own_lanes        -- the actors of whoever calls, by their lane
  local joined = {}      -- who is known to be in the lines of gates, in this call
  local owed = {}        -- lanes in turns whose time is to be raised, and by how much
  local AT_GATES = 10 * PRIORITY_STEP -- above all bands of the queue, turns keeps the times of those who wait at gates

  local function priority_of(queue, rank, flow)
    step_of(queue)
    if queue.ages then return tonumber(string.match(',' .. flow, ',p(%d)')) or DEFAULT_PRIORITY end
    return math.floor(rank / PRIORITY_STEP)
  end

  -- The rank as of a strict queue, from which a worker reads priority and time.
  local function strict_rank(queue, rank, flow)
    step_of(queue)
    if not queue.ages then return rank end
    return integer(tonumber(rank) + priority_of(queue, rank, flow) * (PRIORITY_STEP - queue.step))
  end

  local function tenant_of(flow)
    return facts_of(flow).tenant
  end

  -- Turns are taken within a priority. Jobs without a tenant take turns as one more, out of ready.
  local function band_of(queue, rank)
    step_of(queue)
    return queue.ages and 0 or math.floor(rank / PRIORITY_STEP)
  end

  local function lane_of_tenant(tenant, band)
    if not tenant then return 'r' .. band end
    return 't' .. band .. string.sub(redis.sha1hex(tenant), 1, 14)
  end

  -- Who joins owes nothing and is owed nothing: it begins where the first of the others stands.
  local function virtual_time(queue, band)
    local low, high = band * PRIORITY_STEP, '(' .. integer((band + 1) * PRIORITY_STEP)
    local head = call('ZRANGEBYSCORE', queue.turns, low, high, 'WITHSCORES', 'LIMIT', '0', '1')
    return tonumber(head[2] or low)
  end

  local function join(queue, lane, band)
    local time = call('ZSCORE', queue.turns, lane)
    if time then return tonumber(time) end
    time = virtual_time(queue, band)
    call('ZADD', queue.turns, time, lane)
    queue.is_plain = false
    return time
  end

  local function add_waiters(line, queue, lane, most)
    for _, member in ipairs(call('ZRANGEBYLEX', queue.lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', '0', most)) do
      local rank, id = string.match(member, '^[^%z]*%z(%d+)%z(.*)$')
      line[#line + 1] = { id = id, rank = integer(tonumber(rank)), lane = lane, member = member }
    end
    return line
  end

  local function lanes_of(actors)
    if not own_lanes then
      own_lanes = {}
      for actor in string.gmatch(actors, '[^%z]+') do own_lanes[lane_of(actor)] = actor end
    end
    return own_lanes
  end

  -- The lanes in which a worker may find something: those of its actors, and the gates' whose time has come, the longest open first.
  local function open_lanes(queue, actors, now)
    local lanes, own = {}, {}
    if call('ZCARD', queue.opens) == 0 then return lanes end
    queue.suspects = queue.suspects or {}
    for lane, actor in pairs(lanes_of(actors)) do
      if not is_paused('a', actor) then push(own, lane, 's' .. lane) end
    end
    local marks = #own > 0 and call('ZMSCORE', queue.opens, unpack(own)) or {}
    for i, lane in ipairs(own) do
      if marks[i] and i % 2 == 0 then
        queue.suspects[lane] = true
      elseif marks[i] then
        lanes[#lanes + 1] = lane
      end
    end
    for _, lane in ipairs(call('ZRANGEBYSCORE', queue.opens, 0, now, 'LIMIT', '0', OPENS_MAX)) do lanes[#lanes + 1] = lane end
    for _, lane in ipairs(lanes) do seen.looked[lane] = true end
    return lanes
  end

  local function first_ready(queue, most)
    local line, ready = {}, call('ZRANGE', queue.ready, '0', most - 1, 'WITHSCORES')
    for i = 1, #ready, 2 do line[#line + 1] = { id = ready[i], rank = digits(ready[i + 1]) } end
    return line
  end

  -- Those of nobody, in ready or at a gate.
  local function first_of_nobody(queue, most, gate)
    return gate and add_waiters({}, queue, gate, most) or first_ready(queue, most)
  end

  -- The first tenants of the line at a gate, from a band on, with their times. The line lies in lanes; what each has paid since its entry
  -- was written stands in turns alone, so an entry may be too early. Answers those, too, and what takes their place.
  local function seen_in_line(queue, gate, band)
    local low = string.format('[%s~\0%016.0f', gate, band * PRIORITY_STEP)
    local entries = call('ZRANGEBYLEX', queue.lanes, low, '(' .. gate .. '~\1', 'LIMIT', '0', TURNS_LOOK + 1)
    local lanes, heads, early, right = {}, {}, {}, {}
    for i, entry in ipairs(entries) do lanes[i] = gate .. string.match(entry, '[^%z]*$') end
    local times = #lanes > 0 and call('ZMSCORE', queue.turns, unpack(lanes)) or {}
    for i, entry in ipairs(entries) do
      local lane = string.sub(lanes[i], #gate + 1)
      local time = times[i] and times[i] - AT_GATES + string.sub(lane, 2, 2) * PRIORITY_STEP
      local due = time and lane_member(gate .. '~', integer(time), lane)
      if due then push(heads, lane, time) end
      if due ~= entry then
        early[#early + 1] = entry
        if due then push(right, 0, due) end
      end
    end
    return heads, early, right
  end

  local function line_at(queue, gate, band)
    local heads, early, right
    repeat
      heads, early, right = seen_in_line(queue, gate, band)
      write('ZADD', queue.lanes, right)
      write('ZREM', queue.lanes, early)
    until #early == 0
    return heads
  end

  -- Turns at a gate are its own: who joins its line begins where the first of those who wait there stands, and right behind him.
  -- Before the first tenant come those of nobody who are there already. Answers whether it has come back, before it had left the line, and
  -- is the first of others: then they are to be looked at.
  local function join_at(queue, gate, lane, band)
    if joined[gate .. lane] then return false end
    joined[gate .. lane] = true
    if call('ZSCORE', queue.turns, gate .. lane) then
      local comes_back = #add_waiters({}, queue, gate .. lane, 1) == 0 and has_waiters(queue, gate)
      return comes_back and line_at(queue, gate, 0)[1] == lane
    end
    local nobody = string.sub(lane, 1, 1) == 't' and add_waiters({}, queue, gate, 1)[1]
    local rank = math.min(nobody and tonumber(nobody.rank) or math.huge, seen.nobody[gate] or math.huge)
    if string.sub(lane, 1, 1) == 't' and rank < math.huge then
      join_at(queue, gate, lane_of_tenant(nil, band_of(queue, rank)), band_of(queue, rank))
    end
    local head, low = line_at(queue, gate, band), band * PRIORITY_STEP
    local time = head[1] and head[2] < low + PRIORITY_STEP and head[2] + 1 or low
    write_lanes(queue, { 0, lane_member(gate .. '~', integer(time), lane) })
    call('ZADD', queue.turns, time - low + AT_GATES, gate .. lane)
    queue.is_plain = false
    return false
  end

  local function lane_at(queue, gate, tenant, rank)
    local band = band_of(queue, rank)
    return gate .. lane_of_tenant(tenant, band), join_at(queue, gate, lane_of_tenant(tenant, band), band)
  end

  -- The lane in which a job waits at a gate, that of its tenant there; and when it is looked at, if the gate opens at this time.
  local function place_at(queue, gate, flow, rank, at, now)
    local tenant = tenant_of(flow)
    if tenant then
      local lane, is_first = lane_at(queue, gate, tenant, rank)
      return lane, is_first and now or at
    end
    local nobody = seen.nobody
    if rank < (nobody[gate] or math.huge) then nobody[gate] = rank end
    return gate, at
  end

  local function weight_of(queue, tenant)
    local name = 'weight ' .. queue.name .. ' ' .. (tenant or '')
    if not seen.weights[name] then seen.weights[name] = tenant and tonumber(call('HGET', RULES, name) or '') or 1 end
    return seen.weights[name]
  end

  -- A turn is paid for when a job is claimed, so that a backlog that is cancelled owes nothing; suspects wait for none, and pay none.
  local function charge(queue, tenant, candidate)
    local price = math.floor(TURN / weight_of(queue, tenant))
    for _, lane in ipairs({ candidate.payer, candidate.pays_at }) do
      if not owed[lane] then owed[#owed + 1] = lane end
      owed[lane] = (owed[lane] or 0) + price
    end
  end

  -- One read and one write for all the turns that a line takes; before others join at a gate, right behind one who may have paid.
  local function write_charges(queue)
    if #owed == 0 then return end
    local times, paid = call('ZMSCORE', queue.turns, unpack(owed)), {}
    for i, lane in ipairs(owed) do push(paid, integer(times[i] + owed[lane]), lane) end
    owed = {}
    write('ZADD', queue.turns, paid)
  end

  local function first_heads(queue, gate)
    if gate then return line_at(queue, gate, 0) end
    return call('ZRANGEBYSCORE', queue.turns, '-inf', '(' .. integer(AT_GATES), 'WITHSCORES', 'LIMIT', '0', TURNS_LOOK + 1)
  end

  -- The tenants whose turn is next, in the queue or at a gate, each with its first waiters; those that have none, and owe nothing, leave
  -- the turns, but for those `at_gates`, who take turns with them. Up to `horizon` the order is known. Answers, too, whether one has left.
  local function next_tenants(queue, most, gate, at_gates)
    local ready, at = first_of_nobody(queue, most, gate), gate or ''
    local ready_band = ready[1] and band_of(queue, tonumber(ready[1].rank))
    if ready_band and not gate then join(queue, lane_of_tenant(nil, ready_band), ready_band) end
    local heads = first_heads(queue, gate)
    if ready_band and gate and #heads > 0 then
      join_at(queue, gate, lane_of_tenant(nil, ready_band), ready_band)
      heads = first_heads(queue, gate)
    end
    local tenants, any, horizon = {}, false, #heads / 2 > TURNS_LOOK and tonumber(heads[#heads]) or math.huge
    local share = math.min(most, math.ceil(2 * most / math.max(math.min(#heads / 2, TURNS_LOOK), 1)) + 1)
    for i = 1, math.min(#heads, 2 * TURNS_LOOK), 2 do
      local lane, line, cut_at = heads[i], {}, most
      if lane == 'r' .. tostring(ready_band) then
        for _, candidate in ipairs(ready) do
          if band_of(queue, tonumber(candidate.rank)) == ready_band then line[#line + 1] = candidate end
        end
        if #line < #ready then cut_at = #line end -- behind them come those of another band, who are not in the turns yet
      elseif string.sub(lane, 1, 1) == 't' then
        cut_at = share
        add_waiters(line, queue, at .. lane, share)
      end
      for _, candidate in ipairs(line) do
        candidate.payer = lane
        if gate then candidate.lane, candidate.pays_at = gate, gate .. lane end
      end
      if #line > 0 then
        tenants[#tenants + 1] = { lane = lane, time = tonumber(heads[i + 1]), line = line, taken = 0, is_cut = #line == cut_at }
      elseif #tenants == 0 and not at_gates[lane] then -- one behind others still owes the turn that it had before them
        call('ZREM', queue.turns, at .. lane)
        joined[at .. lane] = nil
        any = true
      end
    end
    return tenants, horizon, any
  end

  local function least(tenants)
    local first
    for _, tenant in ipairs(tenants) do
      local is_left = tenant.taken < #tenant.line
      if is_left and (not first or comes_before(tenant.time, tenant.lane, first.time, first.lane)) then first = tenant end
    end
    return first
  end

  -- Who pays in the queue for a job that waits at a gate.
  local function payer_of(queue, waiter, tenants)
    for _, tenant in ipairs(tenants) do
      if tenant.lane == waiter.payer then return tenant end
    end
    local time = join(queue, waiter.payer, band_of(queue, tonumber(waiter.rank)))
    tenants[#tenants + 1] = { lane = waiter.payer, time = time, line = {}, taken = 0 }
    return tenants[#tenants]
  end

  -- The line of a gate, or of a tenant, whose turn is next, and who pays. Where times are equal, those who waited at a gate go first.
  local function next_line(queue, tenants, at_gates)
    local line, payer
    for _, gate in ipairs(at_gates) do
      local waiter = gate.line[gate.taken + 1]
      local other = waiter and payer_of(queue, waiter, tenants)
      if other and not (payer and payer.time <= other.time) then line, payer = gate, other end
    end
    local tenant = least(tenants)
    if tenant and not (payer and payer.time <= tenant.time) then return tenant, tenant end
    return line, payer
  end

  -- The first `most` jobs in the order in which tenants get their turns, at one gate; or in the queue, with the lines of open gates: always
  -- of the tenant whose virtual time is least. Answers, too, whether it has met nothing but tenants who have gone, and more may follow; and
  -- whether it has stopped short, and others have their turn now.
  local function take(queue, most, gate, at_gates)
    local tenants, horizon, any, looks = {}, math.huge, true, 0
    while #tenants == 0 and any and looks < BATCH_MAX do
      tenants, horizon, any = next_tenants(queue, most, gate, at_gates)
      looks = looks + TURNS_LOOK
    end
    local line, may_follow, is_cut = {}, #tenants == 0 and any, false
    while #line < most and not is_cut do
      local from, payer = next_line(queue, tenants, at_gates)
      if not from or (payer.time > horizon and #line > 0) then return line, may_follow, horizon < math.huge end
      from.taken = from.taken + 1
      local candidate = from.line[from.taken]
      line[#line + 1] = candidate
      payer.weight = payer.weight or weight_of(queue, tenant_of(flow_of(call('HGET', RUNS, candidate.id))))
      payer.time = payer.time + math.floor(TURN / payer.weight)
      is_cut = from.is_cut and from.taken == #from.line
    end
    return line, may_follow, is_cut
  end

  -- The first `most` of a queue in which tenants take turns, with those at open gates; answers whether more may follow.
  local function first_by_turns(queue, most, lanes)
    local at_gates, any = {}, false
    for _, lane in ipairs(lanes) do
      if gates().gate_of_lane(lane) then
        local line, more, is_cut = take(queue, most, lane, {})
        if #line == 0 and not more then add_waiters(line, queue, lane, most) end
        at_gates[#at_gates + 1] = { line = line, taken = 0, is_cut = is_cut }
        for _, waiter in ipairs(line) do
          waiter.payer = waiter.payer or lane_of_tenant(nil, band_of(queue, tonumber(waiter.rank)))
          at_gates[waiter.payer] = true
        end
        any = any or more
      end
    end
    local line, more = take(queue, most, nil, at_gates)
    return line, more or any
  end

  -- Who comes first at a gate, for those who only look.
  local function first_at(queue, gate)
    local heads, nobody = seen_in_line(queue, gate, 0), add_waiters({}, queue, gate, 1)[1]
    local first, first_time, low = nobody, math.huge, nobody and band_of(queue, tonumber(nobody.rank)) * PRIORITY_STEP
    for i = 1, nobody and #heads or 0, 2 do
      local is_nobody, is_same = heads[i] == lane_of_tenant(nil, low / PRIORITY_STEP), heads[i + 1] - low < PRIORITY_STEP
      if is_nobody then
        first_time = heads[i + 1]
        break
      end
      if heads[i + 1] >= low and is_same then first_time = math.min(first_time, heads[i + 1] + 1) end
    end
    if nobody and first_time == math.huge then first_time = low end
    for i = 1, #heads, 2 do
      local waiter = add_waiters({}, queue, gate .. heads[i], 1)[1]
      if waiter and heads[i + 1] < first_time then first, first_time = waiter, heads[i + 1] end
    end
    return first
  end

  -- Six bytes of an id as one number, so that many ids that tie are not compared byte by byte.
  local function bytes_at(id, first)
    local a, b, c, d, e, f = string.byte(id, first, first + 5)
    return (((((a or 0) * 256 + (b or 0)) * 256 + (c or 0)) * 256 + (d or 0)) * 256 + (e or 0)) * 256 + (f or 0)
  end

  local function by_rank(line)
    for _, candidate in ipairs(line) do
      candidate.order, candidate.start = tonumber(candidate.rank), bytes_at(candidate.id, 1)
      candidate.middle, candidate.rest = bytes_at(candidate.id, 7), bytes_at(candidate.id, 13)
    end
    table.sort(line, function(a, b)
      if a.order ~= b.order then return a.order < b.order end
      if a.start ~= b.start then return a.start < b.start end
      if a.middle ~= b.middle then return a.middle < b.middle end
      if a.rest ~= b.rest then return a.rest < b.rest end
      return comes_before(a.order, a.id, b.order, b.id)
    end)
    return line
  end

  local function unique_of(flow)
    return string.match(',' .. flow, ',u([^,*]+)%*([^,*]+)%*(%a)')
  end

  -- The job that has a unique key; one that has ended has no run any more, and stands in nobody's way.
  local function holder_of(key, now)
    local id, until_ms = string.match(call('HGET', UNIQUE, key) or '', '^([^%z]+)%z?(%d*)$')
    if not id then return nil end
    if until_ms ~= '' then return tonumber(until_ms) > now and id or nil end
    return call('HEXISTS', RUNS, id) == 1 and call('HEXISTS', JOBS, id) == 1 and id or nil
  end

  local function take_unique(key, till, id, now)
    local until_ms = tonumber(till) and integer(now + tonumber(till))
    call('HSET', UNIQUE, key, until_ms and id .. '\0' .. until_ms or id)
    if until_ms then call('ZADD', UNIQUE_VOID, until_ms, key) end
  end

  -- `when`: s started, f finished.
  local function release_unique(id, flow, when)
    if not facts_of(flow).is_unique then return end
    local key, till = unique_of(flow)
    if key and (till == when or (when == 'f' and till == 's')) and call('HGET', UNIQUE, key) == id then call('HDEL', UNIQUE, key) end
  end

  return {
    priority_of = priority_of, strict_rank = strict_rank, tenant_of = tenant_of, band_of = band_of, lane_of_tenant = lane_of_tenant,
    join = join, place_at = place_at, first_at = first_at, charge = charge, write_charges = write_charges, lanes_of = lanes_of,
    open_lanes = open_lanes, first_ready = first_ready, add_waiters = add_waiters, first_by_turns = first_by_turns, by_rank = by_rank,
    unique_of = unique_of, holder_of = holder_of, take_unique = take_unique, release_unique = release_unique,
  }
end)
