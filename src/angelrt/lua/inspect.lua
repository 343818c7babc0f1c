-- Show where jobs are and all that is known of them; changes nothing.
-- KEYS      jobs runs results notes completed failed cancelled | per queue: ready delayed leased lanes opens wake
-- ARGV      per job: id
-- RETURNS   per job: state ('' when there is none), queue, score, record, run, result, note
-- INVARIANT read-only
local JOBS, RUNS, RESULTS, NOTES, COMPLETED, FAILED, CANCELLED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local queues = queues_from(8)

local ENDED = { { 'completed', COMPLETED }, { 'failed', FAILED }, { 'cancelled', CANCELLED } }

local function place(id, record, run)
  for _, ended in ipairs(ENDED) do
    local score = call('ZSCORE', ended[2], id)
    if score then return ended[1], '', score end
  end
  for _, queue in ipairs(queues) do
    for _, state in ipairs({ 'ready', 'delayed', 'leased' }) do
      local score = call('ZSCORE', queue[state], id)
      if score then return state, queue.name, score end
    end
    local rank = parse_run(run).rank
    if rank and call('ZSCORE', queue.lanes, lane_member(lane_of(actor_of(record)), rank, id)) then return 'lane', queue.name, integer(rank) end
  end
  return '', '', ''
end

local reply = {}
for _, id in ipairs(ARGV) do
  local record, run = call('HGET', JOBS, id), call('HGET', RUNS, id)
  local state, queue, score = '', '', ''
  if record then state, queue, score = place(id, record, run) end
  local row = { state, queue, score, record or '', run or '', call('HGET', RESULTS, id) or '', call('HGET', NOTES, id) or '' }
  for _, cell in ipairs(row) do reply[#reply + 1] = cell end
end
return reply
