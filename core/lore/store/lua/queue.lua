local NAMED = {place = true, ahead = true, traceparent = true, elsewhere = true}
local ELSEWHERE_MS = 10000

-- Accept a request, or find it.
-- ARGV  2 queue_limit  3 server run id  4 request_id  5 subject  6 body  7 fingerprint
--       8 ack  9 window  10… the fields wanted, and after them, if it has them: 'place',
--       place_ms, 'ahead', how many of its client's requests stand ahead of it,
--       'traceparent', the context of its trace, 'elsewhere', '1' from one that then asks another
--       partition, in the same name: its other callers are sent there too, for ELSEWHERE_MS
-- reply {outcome, created 0|1, values of the fields wanted…}; {"full", 0} creates nothing, nor
--       does {"unknown", 0}: one that was deleted stays so for DELETED_MS
local function lore_open(keys, args)
  local now, given, last = clock(args[1]), {}, #args
  while NAMED[args[last - 1]] do
    given[args[last - 1]], last = args[last], last - 2
  end
  local wanted = {unpack(args, 10, last)}
  local created = server.call('EXISTS', keys[1]) == 0
  if created then
    local gone = server.call('GET', deleted_key(keys[1]))
    if gone then return {gone == 'elsewhere' and 'full' or 'unknown', 0} end
    local waiting, limit = server.call('ZCARD', keys[3]), tonumber(args[2])
    local free, ahead = limit - waiting, tonumber(given.ahead or '0')
    if free <= 0 or (2 * waiting >= limit and ahead >= PARTITIONS * free) then
      if given.elsewhere then
        server.call('SET', deleted_key(keys[1]), 'elsewhere', 'PXAT', int(now + ELSEWHERE_MS))
      end
      return {'full', 0}
    end
    local ms = int(now)
    local place = given.place or ms
    server.call('HSET', keys[1], 'status', 'queued', 'request_id', args[4], 'subject', args[5],
      'body', args[6], 'fingerprint', args[7], 'ack', args[8], 'window', args[9],
      'run_id', args[3], 'log_id', string.format('%x', now), 'forks', '',
      'next_seq', '1', 'owner', '', 'epoch', '0', 'generated_tokens', '0',
      'acked_seq', '0', 'acked_tokens', '0', 'reopen_tokens', '0', 'prompt_tokens', '0',
      'finish_reason', '', 'error', '', 'created_ms', ms, 'started_ms', '0',
      'progress_ms', ms, 'finished_ms', '0', 'lease_until_ms', '0',
      'place_ms', place, 'trace', given.traceparent or '')
    server.call('ZADD', keys[3], place, args[4])
    server.call('ZADD', keys[5], ms, args[4])
    wake(string.sub(keys[3], 1, -2))
  end
  return {'ok', created and 1 or 0, unpack(server.call('HMGET', keys[1], unpack(wanted)))}
end

-- The lease that lapsed first, else the first in the queue. An id whose hash is gone, or in
-- another state than its place says, is dropped on the way. With `untried`, what was claimed
-- before and came to nothing is passed over.
local function next_claimable(q, lease, live, now, untried)
  local tag, lapsed_passed, queued_passed = string.sub(q, 1, -2), 0, 0
  for _ = 1, 100 do
    local lapsed = server.call('ZRANGEBYSCORE', lease, '-inf', int(now),
      'LIMIT', lapsed_passed, 1)[1]
    local id = lapsed or server.call('ZRANGE', q, queued_passed, queued_passed)[1]
    if not id then return nil end
    local request = load(tag .. 'r:' .. id, tag .. 'c:' .. id, q, lease, live)
    if request and (lapsed and OWNED[request.status] or request.status == 'queued') then
      if not untried or request.tries == 0 then return request end
      if lapsed then lapsed_passed = lapsed_passed + 1 else queued_passed = queued_passed + 1 end
    else
      server.call('ZREM', lapsed and lease or q, id)
      if not request then server.call('ZREM', live, id) end
    end
  end
end

-- Take the partition's next request (P15), forking its log when its tail may be lost (P4) or an
-- owner out of reach may still believe the log its own (P3), and count it as one more try. A server that was away may be why the last owner is gone, so the
-- count begins anew after it.
-- KEYS  q, lease, live
-- ARGV  2 owner  3 lease_ms  4 server run id  5… the fields wanted, and after them 'epochs' from an
--       owner that hears epochs on channel b, and to leave out what was tried before 'untried'
-- reply the values of the fields wanted, or nil when nothing can be claimed
local function lore_claim(keys, args)
  local now, last = clock(args[1]), #args
  local untried = args[last] == 'untried'
  if untried then last = last - 1 end
  local hears_epochs = args[last] == 'epochs'
  if hears_epochs then last = last - 1 end
  local lease_ms = tonumber(args[3])
  shorten_leases(keys[2], string.sub(keys[1], 1, -2), now, lease_ms)
  local request = next_claimable(keys[1], keys[2], keys[3], now, untried)
  if not request then return nil end
  local epoch = math.max(request.epoch + 1, now)
  local other_store = request.run_id ~= args[4]
  if other_store then request.tries = 0 end
  if other_store or now < request.alone_until_ms then
    server.call('HSET', request.r, 'log_id', string.format('%x', epoch),
      'forks', fork(request), 'run_id', args[4])
  end
  own(request, args[2], epoch, now, lease_ms, hears_epochs and '1' or '')
  set_lease(request, now + lease_ms)
  server.call('HSET', request.r, 'progress_ms', int(now), 'tries', int(request.tries + 1))
  server.call('ZADD', request.live, int(now), request.id)
  return server.call('HMGET', request.r, unpack(args, 5, last))
end
