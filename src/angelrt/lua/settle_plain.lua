-- Write the verdicts of runs that have completed in the first delivery of jobs that nothing could hold back: the short way of settle.
-- KEYS      jobs runs blobs results notes held watch completed events stats minute | per queue: ready leased
-- ARGV      now_ms events_max worker retention runs | per run: id payload told (all as settle has them)
-- RETURNS   per run 1; nothing where it declines: the long way is to be taken
-- INVARIANT it writes what settle would write; where it declines, it has written nothing
local now, events_max, worker, kept, runs_count = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
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
if not is_plain then return false end

local codes, results, held, leased, ended = {}, {}, {}, {}, {}
local stamp, held_head = whole_ms(now), worker .. '\0'
for i, run in ipairs(call('HMGET', RUNS, unpack(ids))) do
  local at, id = FIRST + (i - 1) * FIELDS, ids[i]
  local told = ARGV[at + 2]
  local token, q = token_of[told], queue_of[told]
  if not run or string.sub(run, 1, #token + 1) ~= token .. ' ' or string.sub(run, -3) ~= ' - ' or
    not string.find(run, ' 1 1 0 ', 1, true) then
    return false
  end
  codes[i] = 1
  leased[q] = leased[q] or {}
  leased[q][#leased[q] + 1] = id
  held[i] = held_head .. id
  push(results, id, run .. '\0' .. ARGV[at + 1])
  push(ended, stamp, id)
end

local counts = {}
for told, times in pairs(times_of) do count_runs(counts, counters_of[told], 'completed', times) end
write('HSET', RESULTS, results)
write('ZADD', COMPLETED, ended)
write_counts(counts)
write('ZREM', HELD, held)
write('HDEL', RUNS, ids)
for q, list in pairs(leased) do write('ZREM', KEYS[OWN_KEYS + (q - 1) * QUEUE_KEYS + LEASED], list) end
announce(ids)
trim(retention(COMPLETED, string.match(kept, '^(%d+) (%d+)')), now, math.min(2 * #ids, SWEEP_MAX))
event(EVENTS, events_max, 'settle', worker, #ids, ids)
return codes
