-- Write the verdict of each run whose token is still valid, and all its effects: result, counters, children, gates, waiters' news.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms events_max worker retention runs (retention: age_ms and most of completed, failed and cancelled)
--           | per run: id payload told
--             (told: `token queue how NUL counters`; how: a verdict, or `verdict delay_ms gates children`; verdicts: c completed, f failed,
--             g failed without this delivery having run, k cancelled, r retry, s snooze, x handed back, d its process died: retry,
--             w handed back with the flow in payload, n note; gates: uTOKENS were used, h hold them for delay_ms, p failed since it killed its process; counters: a label, or
--             `label NUL pickup_word NUL run_word` of a run that has begun)
--           | children, where there are any (packed as by enqueue)
-- RETURNS   per run: 1 settled, 2 settled before with this token, 0 the token is no longer valid and nothing was changed;
--           a call without runs only forgets what is beyond the retention
-- INVARIANT only the holder of the valid token changes a job; a second call with the same token changes nothing
local now, events_max, worker, kept, runs_count = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local completed_age_ms, completed_max, failed_age_ms, failed_max, cancelled_age_ms, cancelled_max =
  string.match(kept, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
local RETENTION = {
  c = retention(COMPLETED, completed_age_ms, completed_max), f = retention(FAILED, failed_age_ms, failed_max),
  k = retention(CANCELLED, cancelled_age_ms, cancelled_max),
}
RETENTION.k.may_have_runs = true -- what a cancellation that broke off has left
local queues = given_queues()

local WORDS = { c = 'completed', f = 'failed', k = 'cancelled', r = 'retried', d = 'retried', s = 'snoozed', x = 'released', w = 'released' }

local ids, codes, counts, tallies, judged = {}, {}, {}, {}, {} -- tallies: by a run's counters, how often each outcome
for i = 0, runs_count - 1 do ids[i + 1] = ARGV[FIRST + i * FIELDS] end
local found = runs_count > 0 and call('HMGET', RUNS, unpack(ids)) or {}

local function verdict_code(i, id, token)
  local run = found[i]
  if run and string.sub(run, 1, #token + 1) == token .. ' ' then return judged[id] and 2 or 1 end
  if run and string.sub(run, 1, #token + 2) == '!' .. token .. ' ' then return 2 end
  local result = call('HGET', RESULTS, id)
  return result and string.sub(result, 1, #token + 1) == token .. ' ' and 2 or 0
end

local stamp = whole_ms(now)
local ended, ended_ids, delayed, ready, lanes, leased, heads = { c = {}, f = {}, k = {} }, {}, {}, {}, {}, {}, {}
local results, overwritten, runs, gone, held, holders, notes, refused_blobs = {}, {}, {}, {}, {}, {}, {}, {}
local refunds, settled_ids, results_of, old_blobs, moved = {}, {}, {}, {}, { c = {}, f = {}, k = {} }

local function push_to(lists, key, a, b)
  local list = lists[key] or {}
  lists[key] = list
  list[#list + 1] = a
  if b then list[#list + 1] = b end
end

-- What was stored apart for a verdict that is not accepted: the arguments of children that are not there, and its result.
local function refuse_children(children)
  for _, child in ipairs(children) do
    local id, record = child.id, child.record
    refused_blobs[#refused_blobs + 1] = blob_of(id, record) and orphan_of(id, record, call('HGET', JOBS, id))
  end
end

local written = {} -- what this call itself has settled

local function refuse_result(id, token, payload)
  if string.sub(payload, 1, 1) == '\1' then refused_blobs[#refused_blobs + 1] = id .. '=' .. token end
end

-- Whether the result of a run is there, with its payload kept apart.
local function is_apart(id, token)
  local result = call('HGET', RESULTS, id)
  return result and string.sub(result, 1, #token + 1) == token .. ' ' and string.sub(result, -2) == '\0\1'
end

local function write_result(id, run, payload)
  results[#results + 1] = id
  results[#results + 1] = run .. '\0' .. payload
  if string.find(run, ' 1 1 0 ', 1, true) then return false end -- the first delivery: there was no result before
  overwritten[#overwritten + 1] = id
  results_of[id] = run
  return true
end

-- A job that is given up without another run: the delivery that tells so is no attempt.
local function without_attempt(stored)
  local run = parse_run(stored)
  run.attempts = math.max(run.attempts - 1, 0)
  return format_run(run)
end

-- A failed job is in no queue any more: its result tells in which it was, for a replay.
local function with_queue(stored, queue)
  local run = parse_run(stored)
  run.flow = with_item(run.flow, 'q' .. queue.name)
  return format_run(run)
end

-- A run that was leased before its rule had a limit was charged nothing: it has nothing to give back.
local function was_charged(gate, run)
  return tonumber(run.started) > tonumber(call('HGET', RULES, gate.rule .. '^') or 0)
end

-- What the run did to its gates beside leaving them: tokens that it did not use go back, those that it used beyond its cost are charged,
-- and an API's Retry-After holds the whole gate.
local function correct_gates(queue, run, note, has_begun, delay_ms)
  local used, holds = tonumber(string.match(note, 'u(%d+)')), string.find(note, 'h', 1, true)
  for _, gate in ipairs(gates().gates_of(run.flow)) do
    local limit = gates().limit_of(gate.rule)
    if holds then gates().hold_back(gate, math.ceil(now + delay_ms)) end
    if gate.kind == 'r' and limit and (not has_begun or (used and gate.has_cost)) and was_charged(gate, run) then
      local tokens = has_begun and used - gate.cost or -gate.cost
      if tokens < 0 then
        refunds[#refunds + 1] = { queue = queue, gate = gate, limit = limit, tokens = tokens, ms = tonumber(run.started) }
      else
        gates().take_tokens(gate, limit, tokens, tonumber(run.started), now)
      end
    end
  end
end

-- Back to a waiting place: r and d (retry) keep the attempt charged; s (snooze), x and w (hand back) do not. Who came to a verdict of its own
-- has killed no worker.
local function put_back(q, id, stored, verdict, delay_ms, payload, has_begun)
  local run = parse_run(stored)
  if verdict ~= 'r' and verdict ~= 'd' then run.attempts = math.max(run.attempts - 1, 0) end
  if run.flow ~= '-' and (verdict == 'r' or verdict == 's') and facts_of(run.flow).deaths then
    run.flow = suspects().with_deaths(run.flow, 0)
  end
  if verdict == 'w' then
    run.flow, verdict = payload, 'x'
  elseif payload ~= '' then
    write_result(id, stored, payload)
  end
  if verdict == 'x' and not has_begun and expires_at(run.flow) then call('ZADD', queues[q].expires, expires_at(run.flow), id) end
  if verdict ~= 'x' and delay_ms > 0 then
    local due = math.ceil(now + delay_ms)
    moves().remove_waiting(queues[q], id, call('HGET', JOBS, id), stored) -- a claim that broke off may have left it in a line, too
    push_to(delayed, q, due, id)
    heads[q] = math.min(heads[q] or due, due)
  elseif run.flow ~= '-' then
    ready[q], lanes[q] = ready[q] or {}, lanes[q] or {}
    moves().back_in_line(queues[q], id, run.rank, run.flow, ready[q], lanes[q], now)
  else
    push_to(ready, q, integer(run.rank), id)
  end
  runs[#runs + 1] = id
  runs[#runs + 1] = format_run(close_run(run, verdict, now))
end

local function read_how(how)
  if #how == 1 then return how, 0, '', 0 end
  local verdict, delay_ms, gates_note, children_count = string.match(how, '^(%a) (%d+) (%S*) (%d+)$')
  return verdict, tonumber(delay_ms), gates_note, tonumber(children_count)
end

local all_children, children_before, accepted = given_jobs(ARGV[FIRST + runs_count * FIELDS], queues), 0, {}
for i, id in ipairs(ids) do
  local at = FIRST + (i - 1) * FIELDS
  local payload = ARGV[at + 1]
  local token, q, how, counters = read_told(ARGV[at + 2])
  local verdict, delay_ms, gates_note, children_count = read_how(how)
  local has_begun = string.find(counters, '\0', 1, true) ~= nil
  local children = { unpack(all_children, children_before + 1, children_before + children_count) }
  codes[i] = verdict_code(i, id, token)
  if codes[i] == 0 or (codes[i] == 2 and not written[id] and not is_apart(id, token)) then refuse_result(id, token, payload) end
  if codes[i] ~= 1 or (not ended[verdict] and verdict ~= 'g') then refuse_children(children) end
  if codes[i] == 1 and verdict == 'n' then
    notes[#notes + 1] = id
    notes[#notes + 1] = payload
  elseif codes[i] == 1 then
    judged[id], written[id] = true, true
    local flow = flow_of(found[i])
    if verdict == 'g' then
      verdict = 'f'
      found[i] = without_attempt(found[i])
    elseif not ended[verdict] and is_asked_to_stop(flow) then
      refuse_result(id, token, payload)
      verdict, payload = 'k', ''
    end
    if flow ~= '-' then
      if ended[verdict] then turns().release_unique(id, flow, 'f') end
      gates().leave(queues[q], id, flow, now, holders)
      if gates_note ~= '' or not has_begun then correct_gates(queues[q], parse_run(found[i]), gates_note, has_begun, delay_ms) end
    end
    count(tallies, counters, WORDS[verdict])
    if gates_note == 'p' then count(tallies, string.match(counters, '^%Z*'), 'poisoned') end
    settled_ids[#settled_ids + 1] = id
    if ended[verdict] then
      push_to(ended, verdict, stamp, id)
      ended_ids[#ended_ids + 1] = id
      gone[#gone + 1] = id
      if verdict == 'f' then found[i] = with_queue(found[i], queues[q]) end
      if write_result(id, found[i], payload) then push_to(moved, verdict, id) end
      if children_count > 0 then accepted[#accepted + 1] = children end
    else
      put_back(q, id, found[i], verdict, delay_ms, payload, has_begun)
    end
    push_to(leased, q, id)
    held[#held + 1] = worker .. '\0' .. id
  elseif codes[i] == 2 and not judged[id] and not (found[i] and string.sub(found[i], 1, 1) ~= '!') then
    -- What the first call left undone when it broke off: the lease, and the news.
    judged[id] = true
    push_to(leased, q, id)
    held[#held + 1] = worker .. '\0' .. id
    if not found[i] then ended_ids[#ended_ids + 1] = id end
  end
  children_before = children_before + children_count
end

if #accepted > 0 then
  for _, queue in ipairs(queues) do call('ZADD', QUEUES, '0', queue.name) end
end
for _, children in ipairs(accepted) do moves().enqueue(children, queues, now, counts, true) end
-- The error of an earlier attempt may lie apart; what replaces it in results leaves it unreachable.
if #overwritten > 0 and call('HLEN', BLOBS) > 0 then
  for i, old in ipairs(call('HMGET', RESULTS, unpack(overwritten))) do
    local old_token = old and string.sub(old, -2) == '\0\1' and string.match(old, '^%S+')
    if old_token and old_token ~= string.match(results_of[overwritten[i]], '^%S+') then
      old_blobs[#old_blobs + 1] = overwritten[i] .. '=' .. old_token
    end
  end
end
write('HDEL', BLOBS, old_blobs)
write('HSET', RESULTS, results)
write('HSET', NOTES, notes)
for verdict, list in pairs(ended) do write('ZADD', RETENTION[verdict].key, list) end
-- A settle that broke off may have let a job end another way before it ran again.
for verdict, list in pairs(moved) do
  for other, rule in pairs(RETENTION) do
    if other ~= verdict then write('ZREM', rule.key, list) end
  end
end
for q, list in pairs(delayed) do
  local head = call('ZRANGE', queues[q].delayed, '0', '0', 'WITHSCORES')[2]
  if not (head and tonumber(head) <= heads[q]) then wake(queues[q]) end
  write('ZADD', queues[q].delayed, list)
end
for q, list in pairs(ready) do
  wake(queues[q])
  write('ZADD', queues[q].ready, list)
  write_lanes(queues[q], lanes[q] or {})
end
for counters, outcomes in pairs(tallies) do
  for outcome, times in pairs(outcomes) do count_runs(counts, counters, outcome, times) end
end
write_counts(counts)
if next(seen.changed) then gates().write_states(now) end
write('ZREM', HELD, held)
write('ZREM', HOLDERS, holders)
write('HSET', RUNS, runs)
write('HDEL', RUNS, gone)
-- After the tokens are void: a call that is repeated gives nothing back twice.
for _, refund in ipairs(refunds) do
  gates().take_tokens(refund.gate, refund.limit, refund.tokens, refund.ms, now)
  gates().mark_open(refund.queue, refund.gate.lane, now)
end
if #refunds > 0 then gates().write_states(now) end
for q, list in pairs(leased) do write('ZREM', queues[q].leased, list) end
write('HDEL', BLOBS, refused_blobs)

announce(ended_ids)

if runs_count == 0 then
  local void = call('ZRANGEBYSCORE', GATES_VOID, '-inf', now, 'LIMIT', '0', SWEEP_MAX)
  write('HDEL', GATES, void)
  write('ZREM', GATES_VOID, void)
  local keys = call('ZRANGEBYSCORE', UNIQUE_VOID, '-inf', now, 'LIMIT', '0', SWEEP_MAX)
  for _, key in ipairs(keys) do
    if not turns().holder_of(key, now) then call('HDEL', UNIQUE, key) end
  end
  write('ZREM', UNIQUE_VOID, keys)
end
for verdict, list in pairs(ended) do
  if runs_count == 0 then
    trim(RETENTION[verdict], now, SWEEP_MAX)
  elseif #list > 0 then
    trim(RETENTION[verdict], now, math.min(#list, SWEEP_MAX))
  end
end
if #settled_ids > 0 then event(EVENTS, events_max, 'settle', worker, #settled_ids, settled_ids) end
return codes
