-- The short way of settle, and what both ways need: where the runs stand, to count them, and to forget ended jobs.
local FIRST, FIELDS = 11, 3
local SWEEP_MAX = 200
local FLOOR_MS = 60000 -- an id younger than this is never forgotten, so that a repeated send still finds it

-- What is kept of one outcome: its key, for how long, and how many at most.
local function retention(key, age_ms, most)
  return { key = key, age_ms = tonumber(age_ms), most = tonumber(most) }
end

-- Forget ended jobs beyond the retention, at most twice as many as this call ended, so that the cost is shared evenly.
local function overdue(rule, now, most)
  local surplus, old = call('ZCARD', rule.key) - rule.most, {}
  local function keeps(ended_ms, position)
    local age_ms = now - ended_ms
    return age_ms < FLOOR_MS or (age_ms < rule.age_ms and position > surplus)
  end
  local head = call('ZRANGE', rule.key, '0', '0', 'WITHSCORES')
  if not head[2] or keeps(tonumber(head[2]), 1) then return old end
  local oldest = call('ZRANGE', rule.key, 0, most - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if keeps(tonumber(oldest[i + 1]), #old + 1) then break end
    old[#old + 1] = oldest[i]
  end
  return old
end

local function trim(rule, now, most)
  local old = overdue(rule, now, most)
  if #old == 0 then return end
  if call('HLEN', BLOBS) > 0 then
    local blobs, records = {}, call('HMGET', JOBS, unpack(old))
    for i, result in ipairs(call('HMGET', RESULTS, unpack(old))) do
      blobs[#blobs + 1] = old[i] .. '=' .. (result and string.match(result, '^%S+') or '')
      blobs[#blobs + 1] = records[i] and blob_of(old[i], records[i]) or nil
    end
    write('HDEL', BLOBS, blobs)
  end
  write('HDEL', RESULTS, old)
  write('HDEL', NOTES, old)
  if rule.key == CANCELLED then write('HDEL', RUNS, old) end -- what a cancellation that broke off has left
  write('HDEL', JOBS, old)
  call('ZREMRANGEBYRANK', rule.key, 0, #old - 1)
end

-- What is told of a run: its token, the number of its queue, how it ended, and what is counted.
local function read_told(told)
  local token, q, how, counters = string.match(told, '^(%S*) (%d+) (%Z*)%z(.*)$')
  return token, tonumber(q), how, counters
end

-- Many runs have the same counters, so they are told apart once: a label, and the words of runs that have begun.
local function count_runs(counts, counters, outcome, times)
  local label, pickup, took = string.match(counters, '^(%Z*)%z?(%Z*)%z?(.*)$')
  count(counts, label, outcome, times)
  if took ~= '' then
    count(counts, label, pickup, times)
    count(counts, label, took, times)
  end
end

-- What settle comes to where all runs have completed, under valid tokens, in the first delivery of jobs that nothing could hold back. It
-- leaves this block, and has written nothing, where the long way is to be taken. It is no function, since to make one costs as much as to
-- run it.
repeat
  local now, worker, runs_count = clock(ARGV[1]), ARGV[3], tonumber(ARGV[10])
  local is_plain, ids, is_new = runs_count > 0, {}, {}
  local token_of, queue_of, counters_of, times_of = {}, {}, {}, {} -- by what is told, which is the same of many runs
  for i = 1, runs_count do
    local at = FIRST + (i - 1) * FIELDS
    local id, told = ARGV[at], ARGV[at + 2]
    if not times_of[told] then
      local token, q, how, counters = read_told(told)
      is_plain, token_of[told], queue_of[told] = is_plain and how == 'c', token, q
      counters_of[told], times_of[told] = counters, 0
    end
    is_plain, times_of[told] = is_plain and not is_new[id], times_of[told] + 1
    is_new[id], ids[i] = true, id
  end
  if not is_plain then break end

  local codes, results, held, leased, ended = {}, {}, {}, {}, {}
  local stamp, held_head = whole_ms(now), worker .. '\0'
  for i, run in ipairs(call('HMGET', RUNS, unpack(ids))) do
    local at, id = FIRST + (i - 1) * FIELDS, ids[i]
    local told = ARGV[at + 2]
    local token, q = token_of[told], queue_of[told]
    if not run or string.sub(run, 1, #token + 1) ~= token .. ' ' or string.sub(run, -3) ~= ' - ' or
      not string.find(run, ' 1 1 0 ', 1, true) then
      is_plain = false
      break
    end
    codes[i] = 1
    leased[q] = leased[q] or {}
    leased[q][#leased[q] + 1] = id
    held[i] = held_head .. id
    push(results, id, run .. '\0' .. ARGV[at + 1])
    push(ended, stamp, id)
  end
  if not is_plain then break end

  local counts = {}
  for told, times in pairs(times_of) do count_runs(counts, counters_of[told], 'completed', times) end
  write('HSET', RESULTS, results)
  write('ZADD', COMPLETED, ended)
  write_counts(counts)
  write('ZREM', HELD, held)
  write('HDEL', RUNS, ids)
  for q, list in pairs(leased) do write('ZREM', KEYS[OWN_KEYS + (q - 1) * QUEUE_KEYS + LEASED], list) end
  announce(ids)
  trim(retention(COMPLETED, ARGV[4], ARGV[5]), now, math.min(2 * #ids, SWEEP_MAX))
  event(EVENTS, ARGV[2], 'settle', worker, #ids, ids)
  return codes
until true
