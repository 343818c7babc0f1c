-- Suspects: jobs whose worker died while they ran. They wait in a lane of their actor, and run on a worker that holds nothing else: up to
-- eight together after one death, alone after two. A job whose worker died once more has run alone then, and is not run again.
suspects = lazily(function()
  local TOGETHER_MAX, ALONE, PROVEN = 8, 2, 3
  local TURN_MS = 500 -- for so long after some of them, others come first on a worker that holds nothing
  local ROOM_AFTER_MS, ROOM_MS = 1000, 1000 -- when a busy worker is asked to make room for them, and how long no other one is
  local BEAT_MS = 600

  local function lane_of_suspects(actor)
    return 's' .. lane_of(actor)
  end

  local function is_of_suspects(lane)
    return #lane == 1 + ACTOR_LANE
  end

  local function with_deaths(flow, deaths)
    local kept = '-'
    for item in string.gmatch(flow, '[^,]+') do
      if item ~= '-' and not string.find(item, '^d%d+$') then kept = with_item(kept, item) end
    end
    return deaths > 0 and with_item(kept, 'd' .. deaths) or kept
  end

  -- In how many deaths a job ran, and whether the last of them is new. A worker that has beaten since was no death: it stood still, or the
  -- server did.
  local function judge(run)
    local deaths = facts_of(run.flow).deaths
    local ended, worker = string.match(run.history, '^l,[^,]+,([^,]+),([^;]+)')
    if not worker then return deaths, false end
    local beat = tonumber(call('ZSCORE', BEATS, worker) or -1)
    if beat > tonumber(ended) - BEAT_MS then return deaths - 1, false end
    return deaths, true
  end

  -- Whether what a run holds is a suspect, by the flow that its lease has written.
  local function is_one(flow)
    local deaths = flow ~= '-' and facts_of(flow).deaths or 0
    return deaths > 0 and deaths < PROVEN
  end

  -- What a lease makes of that: a death uses up no attempt.
  local function take_account(run)
    local deaths, is_new = judge(run)
    run.flow = with_deaths(run.flow, deaths)
    if is_new then run.attempts = math.max(run.attempts - 1, 0) end
  end

  -- Somebody waits in a lane of suspects: its mark is minus the time from which it is their turn.
  local function open(queue, lane, now)
    if call('ZADD', queue.opens, 'NX', -now, lane) == 1 then wake(queue) end
    queue.suspects[lane] = true
  end

  -- Whether a busy worker is to make room; for a while no other one is asked.
  local function ask_for_room(queue, since, now)
    if now < since + ROOM_AFTER_MS or -tonumber(call('ZSCORE', queue.opens, 'S') or 0) > now then return false end
    call('ZADD', queue.opens, -(now + ROOM_MS), 'S')
    return true
  end

  local function served(queue, lane, now)
    call('ZREM', queue.opens, 'S', has_waiters(queue, lane) and 'S' or lane)
    if call('ZADD', queue.opens, 'XX', 'CH', -(now + TURN_MS), lane) == 1 then wake(queue) end
  end

  -- Those who wait, in order, and since when it is their turn.
  local function waiters(queue)
    local line, since = {}, math.huge
    for lane in pairs(queue.suspects) do
      if #turns().add_waiters({}, queue, lane, 1) == 0 then
        call('ZREM', queue.opens, 'S', lane)
        queue.suspects[lane] = nil
      else
        turns().add_waiters(line, queue, lane, TOGETHER_MAX)
        since = math.min(since, -tonumber(call('ZSCORE', queue.opens, lane) or 0))
      end
    end
    return turns().by_rank(line), since
  end

  return {
    TOGETHER_MAX = TOGETHER_MAX, ALONE = ALONE, PROVEN = PROVEN, lane_of_suspects = lane_of_suspects,
    is_of_suspects = is_of_suspects, is_one = is_one, with_deaths = with_deaths, judge = judge, take_account = take_account, open = open,
    ask_for_room = ask_for_room, served = served, waiters = waiters,
  }
end)
