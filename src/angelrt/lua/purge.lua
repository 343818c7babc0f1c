-- Forget failed jobs, with all that is kept of them.
-- KEYS      the partition's
-- ARGV      now_ms events_max | per job: id failed_ms (the failure that is meant)
-- RETURNS   per job: 1 it is gone, by this call or before, 0 it is there and this failure is not
-- INVARIANT nothing of a forgotten job is left, and a job that waits, runs or ended another way is not touched
local now, events_max = clock(ARGV[1]), ARGV[2]

local ids, scores, records, results = {}, {}, {}, {}
for at = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
if #ids > 0 then
  scores, records, results = call('ZMSCORE', FAILED, unpack(ids)), call('HMGET', JOBS, unpack(ids)), call('HMGET', RESULTS, unpack(ids))
end

local codes, gone, blobs = {}, {}, {}
for i, id in ipairs(ids) do
  if tonumber(scores[i] or -1) == tonumber(ARGV[2 * i + 2]) then
    codes[i] = 1
    gone[#gone + 1] = id
    if results[i] then blobs[#blobs + 1] = id .. '=' .. string.match(results[i], '^%S+') end
    blobs[#blobs + 1] = records[i] and blob_of(id, records[i]) or nil
  else
    codes[i] = records[i] and 0 or 1
  end
end
if call('HLEN', BLOBS) > 0 then write('HDEL', BLOBS, blobs) end
write('HDEL', RESULTS, gone)
write('HDEL', NOTES, gone)
write('HDEL', JOBS, gone)
if #gone > 0 then event(EVENTS, events_max, 'purge', '-', #gone, gone) end
write('ZREM', FAILED, gone)
return codes
