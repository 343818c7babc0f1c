-- What both ways of settle need: where the runs stand among the arguments, to count them, and to forget ended jobs.

local FIRST, FIELDS = 6, 3
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
  if rule.may_have_runs then write('HDEL', RUNS, old) end
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
