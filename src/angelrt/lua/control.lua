-- Pause and resume queues, actors and gates, and change the limits of rules; what may proceed then is marked open.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      now_ms verb what value
--           (pause and resume: q, a or g with a name, and who did it; limit: a rule and its spec, '' for the declared one; declare: a rule
--           and the spec in its code; sweep: a rule and the lane to go on from, '' for all)
-- RETURNS   the lane from which a sweep is to go on, '' when none is left
-- INVARIANT what waits at a gate that this call has opened has an open mark, or the rule is noted as not swept to its end
local now, verb, what, value = clock(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local queues = given_queues()

local SWEEP_LANES = 500

local function open_all(lane, mark)
  for _, queue in ipairs(queues) do
    if has_waiters(queue, lane) then
      call('ZADD', queue.opens, mark, lane)
      wake(queue)
    end
  end
end

local function resume()
  local kind, name = string.sub(what, 1, 1), string.sub(what, 2)
  if kind == 'q' then
    for _, queue in ipairs(queues) do
      if queue.name == name then
        -- Those who lack an actor have handed the marker on for the marks that its lane had before.
        for _, lane in ipairs(call('ZRANGEBYSCORE', queue.opens, '-inf', '(0')) do
          if #lane == ACTOR_LANE then call('ZADD', queue.opens, -now, lane) end
        end
        wake(queue)
      end
    end
  elseif kind == 'a' then
    open_all(lane_of(name), -now)
  else
    open_all(gates().lane_of_gate(name), now)
  end
  call('HDEL', CONTROL, what, 'd' .. what)
end

-- Mark the lanes of a rule in which jobs wait, from `cursor` on.
local function sweep(rule, cursor)
  local from, last, left = cursor, gates().lanes_of_rule(rule) .. '~', SWEEP_LANES
  call('HSET', RULES, rule .. '~', '1')
  for _, queue in ipairs(queues) do
    cursor = from
    while true do
      local found = call('ZRANGEBYLEX', queue.lanes, '[' .. cursor, '(' .. last, 'LIMIT', '0', '1')[1]
      if not found then break end
      local lane = string.sub(found, 1, 20) -- of the gate, whoever waits there
      if left == 0 then return lane end
      left = left - 1
      call('ZADD', queue.opens, now, lane)
      wake(queue)
      cursor = lane .. '\127'
    end
  end
  call('HDEL', RULES, rule .. '~')
  return ''
end

local function change(field)
  local before = call('HGET', RULES, field) or ''
  if before == value and call('HEXISTS', RULES, what .. '~') == 0 then return '' end
  call('HSET', RULES, what .. '~', '1') -- first, so that a call that broke off is gone on with
  if string.find(value, ' ', 1, true) and not gates().limit_of(what) then call('HSET', RULES, what .. '^', whole_ms(now)) end
  if value == '' then call('HDEL', RULES, field) else call('HSET', RULES, field, value) end
  return sweep(what, gates().lanes_of_rule(what))
end

if verb == 'pause' then
  call('HSETNX', CONTROL, what, value)
elseif verb == 'resume' then
  resume()
elseif verb == 'declare' then
  return change(what)
elseif verb == 'limit' then
  return change(what .. '!')
else
  return sweep(what, value == '' and gates().lanes_of_rule(what) or value)
end
return ''
