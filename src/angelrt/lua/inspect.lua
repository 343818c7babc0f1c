-- Show where jobs are and all that is known of them; changes nothing.
-- KEYS      the partition's | per queue: ready delayed leased lanes opens wake expires turns
-- ARGV      per job: id
-- RETURNS   per job: state ('' when there is none), queue, score, record, run, result, note
-- INVARIANT read-only
local queues = given_queues()

local ENDED = { { 'completed', COMPLETED }, { 'failed', FAILED }, { 'cancelled', CANCELLED } }

local function place(id, record, run)
  for _, ended in ipairs(ENDED) do
    local score = call('ZSCORE', ended[2], id)
    if score then return ended[1], '', score end
  end
  for _, queue in ipairs(queues) do
    local state, score = moves().find(queue, id, record, run)
    if state then return state == 'lanes' and 'lane' or state, queue.name, score end
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
