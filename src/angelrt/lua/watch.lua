-- Answer how jobs ended, and remember who waits for those that have not.
-- KEYS      the partition's
-- ARGV      client | per job: id
-- RETURNS   per job: c, f, k (completed, failed, cancelled), w (waiting: the client will hear of it) or m (no such job); result
-- INVARIANT a job that is answered with w and then ends is announced on the inbox of every client noted for it
local client = ARGV[1]

local ENDED = { { 'c', COMPLETED }, { 'f', FAILED }, { 'k', CANCELLED } }

local function outcome(id)
  for _, ended in ipairs(ENDED) do
    if call('ZSCORE', ended[2], id) then return ended[1] end
  end
  return call('HEXISTS', JOBS, id) == 1 and 'w' or 'm'
end

local reply = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local code = outcome(id)
  reply[#reply + 1] = code
  reply[#reply + 1] = code ~= 'w' and code ~= 'm' and call('HGET', RESULTS, id) or ''
  if code == 'w' then
    local clients = call('HGET', WATCH, id)
    if not clients then
      call('HSET', WATCH, id, client)
    elseif not string.find(' ' .. clients .. ' ', ' ' .. client .. ' ', 1, true) then
      call('HSET', WATCH, id, clients .. ' ' .. client)
    end
  end
end
return reply
