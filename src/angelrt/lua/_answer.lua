-- The answer of a claim: where its jobs stand in it, and how to tell of them.

local REPLY_HEAD, JOB_FIELDS = 4, 5

-- Tell of the jobs that an answer brings.
local function tell(reply, granted, events_max, worker)
  if granted == 0 then return end
  local first_ids = {}
  for i = 1, math.min(granted, EVENT_IDS_MAX) do first_ids[i] = reply[REPLY_HEAD + 1 + (i - 1) * JOB_FIELDS] end
  event(EVENTS, events_max, 'claim', worker, granted, first_ids)
end
