-- The order of a queue's jobs beside their rank, and which of them are the same work: aging, turns of tenants, unique keys.
local turns = lazily(function()
  local TURN = 16384     -- virtual time of one job at weight 1; a band of priority holds 2^35 of them
  local TURNS_LOOK = 32  -- the most tenants among whom one look divides turns

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
    local head = call('ZRANGEBYSCORE', queue.turns, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
    return tonumber(head[2] or low)
  end

  local function join(queue, lane, band)
    if call('ZSCORE', queue.turns, lane) then return end
    call('ZADD', queue.turns, virtual_time(queue, band), lane)
    queue.is_plain = false
  end

  local function weight_of(queue, tenant)
    local name = 'weight ' .. queue.name .. ' ' .. (tenant or '')
    if not seen.weights[name] then seen.weights[name] = tenant and tonumber(call('HGET', RULES, name) or '') or 1 end
    return seen.weights[name]
  end

  -- A turn is paid for when a job is claimed, so that a backlog that is cancelled owes nothing.
  local function charge(queue, tenant, rank)
    local band = band_of(queue, tonumber(rank))
    local lane = lane_of_tenant(tenant, band)
    local time = tonumber(call('ZSCORE', queue.turns, lane) or virtual_time(queue, band))
    call('ZADD', queue.turns, time + math.floor(TURN / weight_of(queue, tenant)), lane)
  end

  local function first_ready(queue, most)
    local line, ready = {}, call('ZRANGE', queue.ready, 0, most - 1, 'WITHSCORES')
    for i = 1, #ready, 2 do line[#line + 1] = { id = ready[i], rank = digits(ready[i + 1]) } end
    return line
  end

  local function add_waiters(line, queue, lane, most)
    for _, member in ipairs(call('ZRANGEBYLEX', queue.lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 0, most)) do
      local rank, id = string.match(member, '^[^%z]*%z(%d+)%z(.*)$')
      line[#line + 1] = { id = id, rank = integer(tonumber(rank)), lane = lane, member = member }
    end
    return line
  end

  -- The tenants whose turn is next, each with its first waiters; those that have none, and owe nothing, leave the turns. Up to `horizon` the order is known.
  local function next_tenants(queue, most)
    local ready = first_ready(queue, most)
    local ready_band = ready[1] and band_of(queue, tonumber(ready[1].rank))
    if ready_band then join(queue, lane_of_tenant(nil, ready_band), ready_band) end
    local heads = call('ZRANGE', queue.turns, 0, TURNS_LOOK, 'WITHSCORES')
    local tenants, horizon = {}, #heads / 2 > TURNS_LOOK and tonumber(heads[#heads]) or math.huge
    local share = math.min(most, math.ceil(2 * most / math.max(math.min(#heads / 2, TURNS_LOOK), 1)) + 1)
    for i = 1, math.min(#heads, 2 * TURNS_LOOK), 2 do
      local lane, line, cut_at = heads[i], {}, most
      if lane == 'r' .. tostring(ready_band) then
        for _, candidate in ipairs(ready) do
          if band_of(queue, tonumber(candidate.rank)) == ready_band then line[#line + 1] = candidate end
        end
      elseif string.sub(lane, 1, 1) == 't' then
        cut_at = share
        add_waiters(line, queue, lane, share)
      end
      if #line > 0 then
        tenants[#tenants + 1] = { time = tonumber(heads[i + 1]), line = line, taken = 0, is_cut = #line == cut_at }
      elseif #tenants == 0 then -- one behind others still owes the turn that it had before them
        call('ZREM', queue.turns, lane)
      end
    end
    return tenants, horizon, #heads > 0
  end

  local function least(tenants)
    local first
    for _, tenant in ipairs(tenants) do
      if tenant.taken < #tenant.line and (not first or tenant.time < first.time) then first = tenant end
    end
    return first
  end

  -- The first `most` jobs in the order in which tenants get their turns: always the one whose virtual time is least. Answers, too, whether it
  -- has met nothing but tenants who have gone, and more may follow.
  local function take(queue, most)
    local tenants, horizon, any, looks = {}, math.huge, true, 0
    while #tenants == 0 and any and looks < BATCH_MAX do
      tenants, horizon, any = next_tenants(queue, most)
      looks = looks + TURNS_LOOK
    end
    local line = {}
    while #line < most do
      local first = least(tenants)
      if not first or first.time > horizon then break end
      first.taken = first.taken + 1
      line[#line + 1] = first.line[first.taken]
      first.weight = first.weight or weight_of(queue, tenant_of(flow_of(call('HGET', RUNS, first.line[1].id))))
      first.time = first.time + math.floor(TURN / first.weight)
      if first.taken == #first.line and first.is_cut then break end
    end
    return line, #tenants == 0 and any
  end

  -- Merge: by rank; where tenants take turns by priority, those of lanes first, since they had their turn.
  local function merge(queue, line, waiters)
    for _, candidate in ipairs(line) do candidate.turn = 1 end
    for _, candidate in ipairs(waiters) do line[#line + 1] = candidate end
    for seat, candidate in ipairs(line) do candidate.order, candidate.seat = tonumber(candidate.rank), seat end
    table.sort(line, function(a, b)
      if queue.takes_turns then
        local first, second = band_of(queue, a.order), band_of(queue, b.order)
        if first ~= second then return first < second end
        if a.turn ~= b.turn then return b.turn == 1 end
        if a.turn then return a.seat < b.seat end
      end
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
    local window_ms = tonumber(till)
    call('HSET', UNIQUE, key, window_ms and id .. '\0' .. integer(now + window_ms) or id)
    if window_ms then call('ZADD', UNIQUE_VOID, math.ceil(now + window_ms), key) end
  end

  -- `when`: s started, f finished.
  local function release_unique(id, flow, when)
    if not facts_of(flow).is_unique then return end
    local key, till = unique_of(flow)
    if key and (till == when or (when == 'f' and till == 's')) and call('HGET', UNIQUE, key) == id then call('HDEL', UNIQUE, key) end
  end

  return {
    priority_of = priority_of, strict_rank = strict_rank, tenant_of = tenant_of, band_of = band_of, lane_of_tenant = lane_of_tenant,
    join = join, charge = charge, first_ready = first_ready, add_waiters = add_waiters, take = take, merge = merge, unique_of = unique_of,
    holder_of = holder_of, take_unique = take_unique, release_unique = release_unique,
  }
end)
