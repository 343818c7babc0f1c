-- Put new jobs into ready where nothing may hold them back: the short way of enqueue, which declines all else.
-- KEYS      jobs queues events rules control stats minute | per queue: ready wake
-- ARGV      now_ms events_max jobs (as enqueue has it; place: a queue)
-- RETURNS   per job 1; nothing where it declines: the long way is to be taken
-- INVARIANT it writes what enqueue would write; where it declines, it has written nothing
local now, events_max, packed = clock(ARGV[1]), ARGV[2], ARGV[3]
local rank = integer(DEFAULT_PRIORITY * PRIORITY_STEP + math.floor((now - EPOCH_MS) * TICKS_PER_MS))
local places, ids, records = unpacked(packed)
local is_plain, is_new, codes, stored, lines = #ids > 0, {}, {}, {}, {} -- a line by place, which is the same of many jobs
for k = 1, #ids do
  local id, record, place = ids[k], records[k], places[k]
  local line = lines[place]
  if not line then
    line = { queue = tonumber(place), ready = {}, sent = {} }
    lines[place], is_plain = line, is_plain and line.queue
  end
  local ready, actor = line.ready, actor_of(record)
  local n = #ready
  is_plain, is_new[id] = is_plain and not is_new[id], true
  ready[n + 1], ready[n + 2] = rank, id
  stored[2 * k - 1], stored[2 * k] = id, record
  line.sent[actor] = (line.sent[actor] or 0) + 1
  codes[k] = 1
end
if not is_plain then return false end
if call('EXISTS', CONTROL, RULES) > 0 then
  is_plain = call('EXISTS', CONTROL) == 0
  for before = OWN_KEYS, #KEYS - 1, QUEUE_KEYS do
    is_plain = is_plain and call('HEXISTS', RULES, 'aging ' .. queue_name(before)) == 0
  end
  if not is_plain then return false end
end
local known = call('HMGET', JOBS, unpack(ids))
for k = 1, #ids do is_plain = is_plain and not known[k] end
if not is_plain then return false end

local counts = {}
for _, line in pairs(lines) do
  local before = OWN_KEYS + (line.queue - 1) * QUEUE_KEYS
  local name = queue_name(before)
  for actor, sent in pairs(line.sent) do counts[name .. '|' .. actor] = { sent = sent } end
  call('ZADD', QUEUES, '0', name)
  call('ZADD', KEYS[before + WAKE], '0', 'm')
  write('ZADD', KEYS[before + READY], line.ready)
end
write('HSET', JOBS, stored) -- last: an id without a record is dropped by claim and sent again by its sender
write_counts(counts)
event(EVENTS, events_max, 'enqueue', '-', #ids, ids)
return codes
