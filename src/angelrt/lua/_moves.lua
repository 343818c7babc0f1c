-- Moves between places, each used by several verbs. The destination is written first, the source removed last.
moves = lazily(function()
  local LATE_MS, GRACE_MS = 2000, 10000 -- what is told of leases in spare_late

  -- Where a job is in this queue: the state, its score, and the member by which the state's key holds it. A lease is left out where the
  -- question is for a waiting place.
  local function find(queue, id, record, run, is_waiting)
    for _, state in ipairs(is_waiting and { 'ready', 'delayed' } or { 'ready', 'delayed', 'leased' }) do
      local score = call('ZSCORE', queue[state], id)
      if score then return state, score, id end
    end
    local parsed = parse_run(run)
    if not parsed.rank then return end
    local lanes = { lane_of(actor_of(record)) }
    if parsed.losses > 0 then lanes[2] = suspects().lane_of_suspects(actor_of(record)) end
    if parsed.flow ~= '-' then
      local tenant = turns().tenant_of(parsed.flow)
      local own = tenant and turns().lane_of_tenant(tenant, turns().band_of(queue, parsed.rank)) or ''
      if tenant then lanes[#lanes + 1] = own end
      for _, gate in ipairs(gates().gates_of(parsed.flow)) do
        lanes[#lanes + 1] = gate.lane .. own
        if gate.cost > 1 then lanes[#lanes + 1] = gates().lane_beyond(gate) .. own end
      end
    end
    for _, lane in ipairs(lanes) do
      local member = lane_member(lane, integer(parsed.rank), id)
      if call('ZSCORE', queue.lanes, member) then return 'lanes', integer(parsed.rank), member end
    end
  end

  -- End jobs as cancelled; `runs` are their parsed runs, whose flow tells why. Their runs, by which a call that broke off is understood, and
  -- the places from which they go are left to the caller, who removes the runs last.
  local function write_cancelled(ids, runs, now)
    if #ids == 0 then return end
    local ended, results, marked, stamp, apart = {}, {}, {}, whole_ms(now), {}
    local old = call('HLEN', BLOBS) > 0 and call('HMGET', RESULTS, unpack(ids)) or {}
    for i, id in ipairs(ids) do
      runs[i].token = '!'
      push(ended, stamp, id)
      push(marked, id, format_run(runs[i]))
      push(results, id, format_run(runs[i]) .. '\0')
      if old[i] and string.sub(old[i], -2) == '\0\1' then apart[#apart + 1] = id .. '=' .. string.match(old[i], '^%S+') end
    end
    write('HSET', RUNS, marked)
    write('HDEL', BLOBS, apart)
    write('HSET', RESULTS, results)
    write('ZADD', CANCELLED, ended)
    announce(ids)
  end

  -- A job that a call has ended before it broke off has its run left, and nothing else. Answers whether this is one.
  local function finish_end(id, run)
    local flow = flow_of(run)
    if not end_item(flow) or not call('ZSCORE', CANCELLED, id) then return false end
    turns().release_unique(id, flow, 'f')
    call('HDEL', RUNS, id)
    return true
  end

  -- End a job that waits. Answers false for one that does not wait here.
  local function end_waiting(queue, id, record, run, item, now)
    local state, score, member = find(queue, id, record, run)
    if not state or state == 'leased' then return false end
    local parsed = parse_run(run)
    parsed.rank = parsed.rank or (state == 'ready' and tonumber(score)) or rank_of(queue, DEFAULT_PRIORITY, tonumber(score))
    if not end_item(parsed.flow) then parsed.flow = with_item(parsed.flow, item) end
    write_cancelled({ id }, { parsed }, now)
    if item ~= 'e' then call('ZREM', queue.expires, id) end
    call('ZREM', queue[state], member)
    if string.sub(item, 1, 1) ~= 'o' then turns().release_unique(id, parsed.flow, 'f') end -- who replaces it takes its key over
    call('HDEL', RUNS, id)
    local gate = state == 'lanes' and gates().gate_of_lane(string.match(member, '^[^%z]*'))
    if gate then gates().mark_open(queue, gate, now) end -- the next one may need less
    return true
  end

  -- A job that comes back waits in ready, or for its tenant's turn.
  local function back_in_line(queue, id, rank, flow, ready, lanes)
    local tenant = flow ~= '-' and turns().tenant_of(flow)
    if not tenant then return push(ready, integer(rank), id) end
    local band = turns().band_of(queue, rank)
    local lane = turns().lane_of_tenant(tenant, band)
    push(lanes, '0', lane_member(lane, integer(rank), id))
    turns().join(queue, lane, band)
  end

  -- What is due, as id and due_ms in turns, goes from delayed to ready; a job ranks by the time at which it was due.
  local function promote(queue, due)
    local ids, ready, lanes, ranked = {}, {}, {}, {}
    for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
    local runs = call('HMGET', RUNS, unpack(ids))
    for i, id in ipairs(ids) do
      local run, due_ms = runs[i] and parse_run(runs[i]), tonumber(due[2 * i])
      if run then
        run.rank = rank_of(queue, turns().priority_of(queue, run.rank, run.flow), due_ms)
        if run.flow ~= '-' then push(ranked, id, format_run(run)) end
        back_in_line(queue, id, run.rank, run.flow, ready, lanes)
      else
        push(ready, integer(rank_of(queue, DEFAULT_PRIORITY, due_ms)), id)
      end
    end
    write('HSET', RUNS, ranked)
    write_lanes(queue, lanes)
    write('ZADD', queue.ready, ready)
    write('ZREM', queue.delayed, ids)
  end

  -- End what was not begun in time.
  local function expire(queue, ids, now, counts)
    local records, runs = call('HMGET', JOBS, unpack(ids)), call('HMGET', RUNS, unpack(ids))
    for i, id in ipairs(ids) do
      if records[i] and end_waiting(queue, id, records[i], runs[i], 'e', now) then
        count(counts, queue.name .. '|' .. actor_of(records[i]), 'cancelled')
        count(counts, queue.name .. '|' .. actor_of(records[i]), 'expired')
      else
        finish_end(id, runs[i])
      end
    end
    write('ZREM', queue.expires, ids)
  end

  -- Give leases back to ready at their old rank, or end those that were asked to stop. `how` is l (the worker was lost: the attempt stays
  -- charged) or x (handed back: it does not). A lease without a valid token is what a call that broke off has left: the job is in its place
  -- already, only the lease goes. Answers how many were given back, their entries in held, and those that ended; held, the runs of these and
  -- leased, by which a repeated call finds them, are left to the caller, in this order.
  local function give_back(queue, ids, how, now, counts)
    if #ids == 0 then return 0, {}, {} end
    local found = call('HMGET', RUNS, unpack(ids))
    local ready, lanes, runs, held, holders, stopped, stopped_runs = {}, {}, {}, {}, {}, {}, {}
    for i, id in ipairs(ids) do
      local run = parse_run(found[i])
      held[i] = run.worker .. '\0' .. id
      if run.flow ~= '-' then gates().leave(queue, id, run.flow, now, holders) end
      local is_valid, is_stopped = string.sub(run.token, 1, 1) ~= '!', is_asked_to_stop(run.flow)
      if is_valid then
        if how == 'l' then
          run.losses = run.losses + 1
          run.flow = suspects().with_deaths(run.flow, (facts_of(run.flow).deaths or 0) + 1)
        else
          run.attempts = math.max(run.attempts - 1, 0)
        end
        close_run(run, how, now)
        run.token = '!' -- `!token` is of a run that was settled, and a late verdict on this one must be refused
      end
      if is_valid or is_stopped then
        if is_stopped then
          stopped[#stopped + 1], stopped_runs[#stopped_runs + 1] = id, run
        else
          back_in_line(queue, id, run.rank, run.flow, ready, lanes)
          push(runs, id, format_run(run))
        end
      end
    end
    write('ZREM', HOLDERS, holders)
    write('ZADD', queue.ready, ready)
    write_lanes(queue, lanes)
    write_cancelled(stopped, stopped_runs, now)
    if #stopped > 0 then count(counts, queue.name .. '|*', 'cancelled', #stopped) end
    write('HSET', RUNS, runs)
    for i, id in ipairs(stopped) do turns().release_unique(id, stopped_runs[i].flow, 'f') end
    return #runs / 2 + #stopped, held, stopped
  end

  -- Workers look when a lease ends. One that is found ended for LATE_MS means that nobody could: the clock jumped (a failover to another
  -- host), or the server was away, and whoever holds it may live. It gets GRACE_MS to renew, once: a half millisecond in the score tells.
  -- `ended` is ids and ends in turns; answers the ids of the others.
  local function spare_late(queue, ended, now)
    local due, spared, till = {}, {}, string.format('%.1f', math.floor(now) + GRACE_MS + 0.5)
    for i = 1, #ended, 2 do
      local deadline = tonumber(ended[i + 1])
      if now - deadline > LATE_MS and deadline % 1 == 0 then push(spared, till, ended[i]) else due[#due + 1] = ended[i] end
    end
    write('ZADD', queue.leased, spared)
    return due
  end

  local function take_back_expired(queue, ids, now, counts)
    local lost, held, stopped = give_back(queue, ids, 'l', now, counts)
    write('ZREM', HELD, held)
    write('HDEL', RUNS, stopped)
    write('ZREM', queue.leased, ids)
    if lost > 0 then count(counts, queue.name .. '|*', 'lost', lost) end
  end

  -- The part of a job that is drained, so that no new one is taken: its queue, its actor or a gate.
  local function drained(queue, record, flow)
    if seen.controlled == false then return nil end
    if is_paused('dq', queue.name) then return 'queue ' .. queue.name end
    if is_paused('da', actor_of(record)) then return 'actor ' .. actor_of(record) end
    for _, gate in ipairs(has_gates(flow) and gates().gates_of(flow) or {}) do
      if is_paused('dg', gate.name) then return 'key ' .. gate.name end
    end
  end

  -- The time that `when` says: '' now, '+ms' later, 'ms' at.
  local function time_of(when, now)
    if when == '' then return now end
    return string.sub(when, 1, 1) == '+' and now + tonumber(when) or tonumber(when)
  end

  -- Jobs that begin to wait: each is given its place, and all are written at once.
  local function places(now)
    local by_queue, order = {}, {}

    local function of(queue)
      if not by_queue[queue] then
        by_queue[queue] = { ready = {}, delayed = {}, lanes = {}, expires = {}, head = math.huge }
        order[#order + 1] = queue
      end
      return by_queue[queue]
    end

    local function stand_in(queue, lane, rank, id)
      push(of(queue).lanes, '0', lane_member(lane, integer(rank), id))
    end

    -- Ready, or the lane of the first gate that is closed, or that of its tenant. Answers the job's rank.
    local function now_ready(queue, id, priority, flow)
      local rank, place = rank_of(queue, priority, now), of(queue)
      if flow ~= '-' then
        local _, at, at_gate = gates().first_closed(queue, id, flow, nil, rank, now)
        if at_gate then
          local lane
          lane, at = turns().place_at(queue, at_gate, flow, rank, at, now)
          stand_in(queue, lane, rank, id)
          gates().look_again(queue, at_gate, id, rank, at)
          return rank
        end
        local tenant, band = turns().tenant_of(flow), turns().band_of(queue, rank)
        if tenant then
          stand_in(queue, turns().lane_of_tenant(tenant, band), rank, id)
          turns().join(queue, turns().lane_of_tenant(tenant, band), band)
          place.is_claimable = true
          return rank
        end
      end
      push(place.ready, integer(rank), id)
      place.is_claimable = true
      return rank
    end

    local function later(queue, id, priority, at)
      local place, due = of(queue), math.ceil(at)
      place.head = math.min(place.head, due)
      push(place.delayed, due, id)
      return rank_of(queue, priority, due)
    end

    local function expiring(queue, id, ms)
      push(of(queue).expires, ms, id)
    end

    local function commit()
      for _, queue in ipairs(order) do
        local place = by_queue[queue]
        local head = place.head < math.huge and call('ZRANGE', queue.delayed, '0', '0', 'WITHSCORES')[2]
        local is_first = place.head < math.huge and not (head and tonumber(head) <= place.head)
        if place.is_claimable or #place.expires > 0 or is_first then wake(queue) end
        write('ZADD', queue.expires, place.expires)
        write('ZADD', queue.ready, place.ready)
        write('ZADD', queue.delayed, place.delayed)
        write_lanes(queue, place.lanes)
      end
    end

    return { now_ready = now_ready, later = later, expiring = expiring, commit = commit }
  end

  -- Of the jobs of one call that replace each other, the last one stays; so it does where the call is sent again. One that is refused
  -- replaces nobody, nor does an id that comes again: by then it may be known, with the other record.
  local function last_by_key(jobs, existing, is_drained)
    local last, has_come = {}, {}
    for k, job in ipairs(jobs) do
      local key, _, how = turns().unique_of(job.flow)
      local is_taken = existing[k] or not (key and is_drained and drained(job.queue, job.record, job.flow))
      if how == 'r' and is_taken and not has_come[job.id] and (not existing[k] or existing[k] == job.record) then last[key] = job.id end
      has_come[job.id] = true
    end
    return last
  end

  -- Whether this very call had replaced a job when it broke off.
  local function was_replaced_by(id, other)
    local result = call('HGET', RESULTS, id)
    return result and string.find(',' .. flow_of(string.match(result, '^[^%z]*')) .. ',', ',o' .. quoted(other) .. ',', 1, true) ~= nil
  end

  -- End a job that waits, in whichever queue, for another that does the same work. Answers false for one that does not wait.
  local function replace(queues, id, other, now, counts)
    local record, run = call('HGET', JOBS, id), call('HGET', RUNS, id)
    for _, queue in ipairs(queues) do
      if end_waiting(queue, id, record, run, 'o' .. quoted(other), now) then
        count(counts, queue.name .. '|' .. actor_of(record), 'cancelled')
        return true
      end
    end
    return finish_end(id, run) or was_replaced_by(id, other)
  end

  -- The job that stands in the way of another with the same unique key: nil when this one takes the key, by replacing it or since nobody has
  -- it. `taken` are the keys that this call has given out.
  local function conflict(queues, id, flow, now, taken, last, counts)
    local key, till, how = turns().unique_of(flow)
    if not key then return nil end
    local holder = taken[key] or turns().holder_of(key, now)
    if holder == id then return nil end
    if holder and holder == last[key] then return holder end
    if holder and how == 'r' and not taken[key] and replace(queues, holder, last[key] or id, now, counts) then holder = nil end
    if holder then return how == 'j' and '!' .. holder or holder end
    taken[key] = last[key] or id
    turns().take_unique(key, till, taken[key], now)
    return taken[key] ~= id and taken[key] or nil
  end

  -- Remove a job from where a call that broke off has put it.
  local function remove_waiting(queue, id, record, run)
    repeat
      local state, _, member = find(queue, id, record, run, true)
      if state then call('ZREM', queue[state], member) end
    until not state
  end

  -- What calls that broke off have left of jobs whose record they did not come to write; for those that have a run from the start.
  local function remove_broken(jobs, existing)
    local new, ids = {}, {}
    for k, job in ipairs(jobs) do
      if not existing[k] and job.flow ~= '-' then new[#new + 1], ids[#ids + 1] = job, job.id end
    end
    if #new == 0 then return end
    for i, run in ipairs(call('HMGET', RUNS, unpack(ids))) do
      if run then remove_waiting(new[i].queue, ids[i], new[i].record, run) end
    end
  end

  -- Answers 1 for each id that is new or was sent with this very record, 0 for one that exists, or came before in this call, with another
  -- record; for one whose unique key is taken, the id of the job that has it, behind `!` where the send is to be refused; `#` and the name of
  -- what is drained. The children of a run are taken all the same.
  local function enqueue(jobs, queues, now, counts, are_children)
    local codes, ids, records, stubs, orphans, first_of, taken, last_of = {}, {}, {}, {}, {}, {}, {}, nil
    if #jobs == 0 then return codes, ids end
    for k, job in ipairs(jobs) do ids[k] = job.id end
    local existing, placed = call('HMGET', JOBS, unpack(ids)), places(now)
    remove_broken(jobs, existing)
    local is_drained = not are_children and call('EXISTS', CONTROL) == 1

    local function refused(job)
      local what = is_drained and drained(job.queue, job.record, job.flow)
      if what then return '#' .. what end
      if job.flow == '-' then return nil end
      last_of = last_of or last_by_key(jobs, existing, is_drained)
      return conflict(queues, job.id, job.flow, now, taken, last_of, counts)
    end

    local function place(job)
      local queue, id, priority, at, flow = job.queue, job.id, job.priority, time_of(job.when, now), job.flow
      if priority ~= DEFAULT_PRIORITY and step_of(queue) ~= PRIORITY_STEP then flow = with_item(flow, 'p' .. priority) end
      local rank = at <= now and placed.now_ready(queue, id, priority, flow) or placed.later(queue, id, priority, at)
      if flow ~= '-' or (at > now and priority ~= DEFAULT_PRIORITY) then push(stubs, id, new_run(rank, flow)) end
      if expires_at(flow) then placed.expiring(queue, id, expires_at(flow)) end
    end

    for k, job in ipairs(jobs) do
      local id, record = job.id, job.record
      local old, earlier = existing[k], first_of[id]
      local other = not old and not earlier and refused(job)
      if old or earlier then
        local is_same = (old or earlier.record) == record
        codes[k] = is_same and (old and 1 or earlier.code) or 0
        if not is_same then orphans[#orphans + 1] = orphan_of(id, record, old or earlier.record) end
      elseif other then
        codes[k] = other
        orphans[#orphans + 1] = blob_of(id, record)
      else
        codes[k] = 1
        place(job)
        push(records, id, record)
        count(counts, job.queue.name .. '|' .. actor_of(record), 'sent')
      end
      first_of[id] = earlier or { record = record, code = codes[k] }
    end
    write('HSET', RUNS, stubs)
    placed.commit()
    -- The record last: an id without one is dropped by claim and sent again by its sender; a record without a place would be lost.
    write('HSET', JOBS, records)
    write('HDEL', BLOBS, orphans)
    return codes, ids
  end

  return {
    find = find, remove_waiting = remove_waiting, write_cancelled = write_cancelled, end_waiting = end_waiting, finish_end = finish_end,
    promote = promote, expire = expire, give_back = give_back, spare_late = spare_late, take_back_expired = take_back_expired,
    back_in_line = back_in_line, drained = drained, time_of = time_of, places = places, enqueue = enqueue,
  }
end)
