-- Helpers put before every verb, behind its short way: a call that goes that way does not make them.

local function given_queues()
  local queues = {}
  for i = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
    queues[#queues + 1] = {
      name = queue_name(i),
      ready = KEYS[i + READY], delayed = KEYS[i + DELAYED], leased = KEYS[i + LEASED], lanes = KEYS[i + LANES],
      opens = KEYS[i + OPENS], wake = KEYS[i + WAKE], expires = KEYS[i + EXPIRES], turns = KEYS[i + TURNS],
    }
  end
  return queues
end

-- The new jobs of a call; none where the call has no such argument.
local function given_jobs(packed, queues)
  local jobs, places, ids, records = {}, {}, {}, {}
  if packed then places, ids, records = unpacked(packed) end
  for k, id in ipairs(ids) do
    local q, priority, when, flow = string.match(places[k], '^(%d+) (%S*) (%S*) (%S*)$')
    jobs[k] = {
      id = id, record = records[k], queue = queues[tonumber(q or places[k])],
      priority = tonumber(priority or '') or DEFAULT_PRIORITY, when = when or '', flow = (flow or '') ~= '' and flow or '-',
    }
  end
  return jobs
end

local function wake(queue)
  call('ZADD', queue.wake, '0', 'm')
end

local HISTORY_MAX = 10
local ACTOR_LANE = 12 -- the length of the name of an actor's lane; no other kind of lane has it

-- A run is `token worker rank deliveries attempts losses started_ms flow history`; the token of a job that is not leased begins with `!`.
local function parse_run(run)
  if not run then
    return { token = '!', worker = '-', deliveries = 0, attempts = 0, losses = 0, started = '0', flow = '-', history = '' }
  end
  local token, worker, rank, deliveries, attempts, losses, started, flow, history =
    string.match(run, '^(%S+) (%S+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S+) (.*)$')
  return {
    token = token, worker = worker, rank = tonumber(rank), deliveries = tonumber(deliveries), attempts = tonumber(attempts),
    losses = tonumber(losses), started = started, flow = flow, history = history,
  }
end

local function format_run(run)
  return table.concat({
    run.token, run.worker, integer(run.rank), run.deliveries, run.attempts, run.losses, run.started, run.flow, run.history,
  }, ' ')
end

-- The run of a job that was never delivered.
local function new_run(rank, flow)
  return '! - ' .. integer(rank) .. ' 0 0 0 0 ' .. flow .. ' '
end

local function has_never_run(run)
  return string.sub(run, 1, 4) == '! - '
end

-- FLOW: what may hold a job back or end it early, as items parted by commas; `-` for nothing.
--   cGATE          one of at most so many at a time
--   rGATE[*COST]   tokens of a rate, one if no cost is given
--   tTENANT        takes turns with other tenants
--   uKEY*TILL*HOW  unique until f finished, s started, or for so many ms; on conflict e existing, r replace, j reject
--   pN             the priority, in a queue where it ages and the rank does not tell it
--   xMS            not to be begun after this time
--   dN             its worker died while it ran, N times in a row
--   kWHO           asked to stop while it ran, or cancelled; e expired; oID replaced by a job of the same unique key
--   qQUEUE         in the result of a failed job: the queue in which it was
-- A gate is `rule=value`; names and values are quoted as in a URL. Answers the flow, and whether the job was never delivered.
local function flow_of(run)
  if not run then return '-' end
  if has_never_run(run) then
    local _, before = string.find(run, ' 0 0 0 0 ', 1, true)
    return string.sub(run, before + 1, -2), true
  end
  if string.find(run, ' - ', 1, true) then return '-', false end
  local _, before = string.find(run, ' 1 1 0 ', 1, true) -- in its first delivery: cheaper to find than by the pattern
  if not before then return string.match(run, '^%S+ %S+ %d+ %d+ %d+ %d+ %S+ (%S+)'), false end
  before = string.find(run, ' ', before + 1, true)
  return string.sub(run, before + 1, string.find(run, ' ', before + 1, true) - 1), false
end

-- An id may be any text; in a flow it is quoted as in a URL.
local function quoted(id)
  return (string.gsub(id, '[^%w_.-]', function(char) return string.format('%%%02X', string.byte(char)) end))
end

local function with_item(flow, item)
  return flow == '-' and item or flow .. ',' .. item
end

local function is_asked_to_stop(flow)
  return flow ~= '-' and string.find(',' .. flow, ',k', 1, true) ~= nil
end

-- What a call wants to know of a flow, read once: many jobs have the same.
local flows = {}
local function facts_of(flow)
  local facts = flows[flow]
  if facts then return facts end
  facts = { has_only_gates = true }
  flows[flow] = facts
  for kind, item in string.gmatch(flow, '([^,])([^,]*)') do
    if kind ~= 'c' and kind ~= 'r' then facts.has_only_gates = false end
    if kind == 'c' or kind == 'r' then
      facts.gates = facts.gates or {}
      push(facts.gates, kind, item)
    elseif kind == 't' then
      facts.tenant = item
    elseif kind == 'x' or kind == 'd' then
      facts[kind == 'x' and 'expires' or 'deaths'] = tonumber(item)
    elseif kind == 'u' then
      facts.is_unique = true
    elseif kind == 'k' or kind == 'e' or kind == 'o' then
      facts.ends = facts.ends or kind .. item
    end
  end
  return facts
end

-- Why a job ends without having run: k, e or o.
local function end_item(flow)
  return flow ~= '-' and facts_of(flow).ends or nil
end

local function expires_at(flow)
  return flow ~= '-' and facts_of(flow).expires or nil
end

local function has_gates(flow)
  return flow ~= '-' and facts_of(flow).gates ~= nil
end

-- The run ends without an outcome: note how (r retry, s snooze, l lost, x released, f failed and replayed) and give the token up.
local function close_run(run, how, now)
  local entry = how .. ',' .. run.started .. ',' .. whole_ms(now) .. ',' .. run.worker
  local kept = { entry }
  for old in string.gmatch(run.history, '[^;]+') do
    if #kept < HISTORY_MAX then kept[#kept + 1] = old end
  end
  run.history = table.concat(kept, ';')
  run.token = '!' .. run.token
  return run
end

-- The arguments kept apart of a record that is not stored, unless they are those of the record that is.
local function orphan_of(id, record, stored)
  local blob = blob_of(id, record)
  return blob and not (stored and blob_of(id, stored) == blob) and blob or nil
end

local function lane_of(actor)
  return string.sub(redis.sha1hex(actor), 1, ACTOR_LANE)
end

local function lane_member(lane, rank, id)
  return lane .. '\0' .. (#rank == 16 and rank or string.format('%016.0f', rank)) .. '\0' .. id
end

-- The order of ranks, then of ids by their bytes, as sorted sets have it (`<` of two texts goes by the server's locale).
local function comes_before(rank, id, other_rank, other_id)
  if rank ~= other_rank then return rank < other_rank end
  for i = 1, math.min(#id, #other_id) do
    local a, b = string.byte(id, i), string.byte(other_id, i)
    if a ~= b then return a < b end
  end
  return #id < #other_id
end

local function has_lanes(queue)
  if queue.has_lanes == nil then queue.has_lanes = call('EXISTS', queue.lanes) == 1 end
  return queue.has_lanes
end

local function write_lanes(queue, members)
  if #members == 0 then return end
  write('ZADD', queue.lanes, members)
  queue.has_lanes = true
end

local function is_actor_lane(lane)
  return #lane == 12
end

-- The first who waits for an actor or at a gate: in its lane, else in that of a tenant there, whose name goes on with a `t`.
local function first_waiter(queue, lane)
  return has_lanes(queue) and call('ZRANGEBYLEX', queue.lanes, '[' .. lane .. '\0', '(' .. lane .. '~', 'LIMIT', '0', '1')[1] or nil
end

local function has_waiters(queue, lane)
  return first_waiter(queue, lane) ~= nil
end
