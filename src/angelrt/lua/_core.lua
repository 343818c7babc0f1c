-- What every call needs, put before every script, behind the names of its keys. Times are milliseconds of the server's clock, ranks are
-- exact integers below 2^53.
-- The state of a job is the sorted set that holds its id; a script writes the destination first and removes from the source last,
-- since Redis keeps what a failing script has already written.

local KEYS, ARGV, call = KEYS, ARGV, redis.call -- globals are looked up by name each time
local EPOCH_MS = 1704067200000 -- 2024-01-01, so that a rank of priority 9 stays below 2^53 until 2093
local TICKS_PER_MS = 256
local PRIORITY_STEP = 2 ^ 49
local DEFAULT_PRIORITY = 5
local BATCH_MAX, BATCH = 500, '500' -- the most jobs one call examines, as a number and as Redis takes it
local STATS_FIELDS_MAX = 20000 -- beyond this, counters of new actors go to one field per queue
local STATS_TTL_S = 90000      -- 25 h: gone before the ring of 26 hours comes round
local MINUTE_TTL_S = 88200     -- gone before the ring of 25 hours comes round
local EVENT_IDS_MAX = 8

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000 * TICKS_PER_MS) / TICKS_PER_MS
end

-- A time as text, exact: Redis would print the number anew for each command that gets it.
local function exact(ms)
  return string.format('%.8f', ms)
end

local function integer(number)
  return string.format('%.0f', number)
end

-- A time as text, in whole milliseconds, never rounded up: a run would seem to end after the next one had begun.
local function whole_ms(ms)
  return integer(math.floor(ms))
end

local function push(list, first, second)
  local n = #list
  list[n + 1] = first
  list[n + 2] = second
end

-- The name of the queue whose keys come after this number of keys.
local function queue_name(before)
  return string.match(KEYS[before + READY], '}:ready:(.*)$')
end

-- Places, ids and records of the new jobs of a call: of one alone that asks for nothing, or of many.
local function unpacked(jobs)
  local place, id, record = string.match(jobs, '^(%d+)%z(%Z+)%z(.*)$')
  if place then return { place }, { id }, { record } end
  return unpack(cmsgpack.unpack(jobs))
end

local function actor_of(record)
  return string.match(record, '^[^%z]*')
end

-- A score as plain digits: some servers write it with an exponent.
local function digits(score)
  return string.find(score, 'e', 1, true) and integer(tonumber(score)) or score
end

local function write(command, key, arguments)
  for first = 1, #arguments, 4000 do
    call(command, key, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
end

-- Counters of one call by label (`queue|actor`) and word; written as fields `queue|actor|word`.
local function count(counts, label, word, by)
  local words = counts[label] or {}
  counts[label] = words
  words[word] = (words[word] or 0) + (by or 1)
end

local function write_counters(key, ttl_s, counts)
  local has_new = false
  for label, words in pairs(counts) do
    for word, by in pairs(words) do
      local field = label .. '|' .. word
      local is_new = call('HINCRBY', key, field, by == 1 and '1' or by) == by
      if is_new and call('HLEN', key) > STATS_FIELDS_MAX then -- to the counter of all the queue's new actors
        call('HINCRBY', key, string.gsub(field, '|.*|', '|*|'), by)
        call('HDEL', key, field)
      end
      has_new = has_new or is_new
    end
  end
  if has_new and call('TTL', key) < 0 then call('EXPIRE', key, ttl_s) end -- a new key begins with a new field
end

-- Into the hour, and into the minute where those are counted.
local function write_counts(counts)
  if not next(counts) then return end
  write_counters(STATS, STATS_TTL_S, counts)
  if MINUTE ~= STATS then write_counters(MINUTE, MINUTE_TTL_S, counts) end
end

local function event(key, entries_max, verb, worker, jobs, ids)
  if entries_max == '' then return end
  call('XADD', key, 'MAXLEN', '~', entries_max, '*', 'v', verb, 'w', worker, 'n', jobs, 'ids',
    table.concat(ids, '\0', 1, math.min(#ids, EVENT_IDS_MAX)))
end

-- Tell those who wait for a result; a waiter that misses the news asks again when it reconnects.
local function announce(ids)
  if #ids == 0 or call('EXISTS', WATCH) == 0 then return end
  local inbox = string.match(WATCH, '^(.*)watch$') .. 'ended:'
  local waiters = call('HMGET', WATCH, unpack(ids))
  for i, id in ipairs(ids) do
    for client in string.gmatch(waiters[i] or '', '%S+') do call('PUBLISH', inbox .. client, id) end
  end
  write('HDEL', WATCH, ids)
end

-- Arguments kept apart are in blobs under the id and the nonce of the record, so that they belong to this record and no other.
local function blob_of(id, record)
  local nonce, rest = string.match(record, '^[^%z]*%z(....)(.*)$')
  return nonce and string.sub(rest, -1) == '\0' and id .. '=' .. nonce or nil
end
