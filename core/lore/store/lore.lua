#!lua name=lore
--[[
Lore's state changes: each one an atomic call on the keys of one partition.

Theory of operation. A request is a hash (r) with its log, a stream (c) whose entry ids are
"<seq>-0". Three sorted sets of the partition say where it is: q (waiting, by place_ms),
lease (owned, by the end of the lease) and live (queued or owned, by last progress). Every
function reads, judges, and only then writes, because functions do not roll back; what it
publishes goes out in the same atomic step. All of them may be repeated. `twin.py` is the
same in Python, and tests/store holds the two together; protocol rules (P…) are explained
in PROTOCOL.md, and the lifecycle table (P13) is in protocol/lifecycle.py.

Common to all functions:
  KEYS     names in one slot. The functions on one request take the five keys
           r, c, q, lease, live; the claimed or waiting request's own keys cannot be known
           before and are built from the partition's prefix, in the same slot.
  ARGV[1]  now in ms; 0 means the server's clock (tests hand the clock in).
  reply    a position: {outcome, status, next_seq, acked_seq, acked_tokens}, status "" when
           the request is unknown. open, claim, renew and waiting say their own.

Published (payloads are split at blanks, without a parser):
  n channel   c <seq> <tokens> <at_ms> <log_id>\n<text>  |  a <acked_seq> <acked_tokens>  |
              s <status> <reason>
  b channel   <outcome> <status> <next_seq> <acked_seq> <acked_tokens>
  lore:wake   the partition's number, two digits

Versions. A client loads this file when the server has no library "lore", an older VERSION,
or another text with the same VERSION (which only a developer sees: VERSION is raised with
every released change). It never replaces a newer one, so that two releases can run side by
side in a rolling upgrade; hence a newer VERSION must serve older callers: arguments are
only ever added at the end, and an absent one means the old behaviour.
]]

local VERSION = 2

local OWNED = {generating = true, paused = true}
local LIVE = {queued = true, generating = true, paused = true}
local MAX_AHEAD_MS = 3600000
local COUNTED_MS = 86400000

-- Numbers go out as whole decimals: Lua would write large ones as 1.7e+12.
local function int(number)
  return string.format('%d', number)
end

local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local time = server.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The request as a table, with its keys and channels; nil when there is none.
local function load(r, c, q, lease, live)
  local v = server.call('HMGET', r, 'status', 'owner', 'epoch', 'log_id', 'run_id', 'next_seq',
    'generated_tokens', 'acked_seq', 'acked_tokens', 'reopen_tokens', 'created_ms', 'started_ms',
    'progress_ms', 'lease_until_ms', 'place_ms')
  if not v[1] then return nil end
  local tag, id = string.match(r, '^(.-)r:(.*)$')
  return {
    r = r, c = c, q = q, lease = lease, live = live, tag = tag, id = id,
    status = v[1], owner = v[2], epoch = tonumber(v[3]), log_id = v[4], run_id = v[5],
    next_seq = tonumber(v[6]), generated_tokens = tonumber(v[7]), acked_seq = tonumber(v[8]),
    acked_tokens = tonumber(v[9]), reopen_tokens = tonumber(v[10]), created_ms = tonumber(v[11]),
    started_ms = tonumber(v[12]), progress_ms = tonumber(v[13]),
    lease_until_ms = tonumber(v[14]), place_ms = tonumber(v[15] or v[11]),
  }
end

local function position(outcome, request)
  return {
    outcome, request.status, request.next_seq, request.acked_seq, request.acked_tokens,
  }
end

local function unknown()
  return {'unknown', '', 0, 0, 0}
end

local function publish(request, payload)
  server.call('SPUBLISH', request.tag .. 'n:' .. request.id, payload)
end

local function publish_state(request, reason)
  publish(request, 's ' .. request.status .. ' ' .. reason)
end

local function publish_position(outcome, request)
  server.call('SPUBLISH', request.tag .. 'b:' .. request.id,
    string.format('%s %s %d %d %d', unpack(position(outcome, request))))
end

local function wake(request)
  server.call('PUBLISH', 'lore:wake', string.match(request.tag, '{p(%d+)}'))
end

-- The lease's judgement (P2). A newer epoch is one that the store has forgotten. What it
-- remembers of a lease after a loss counts until that lease ends: from then on it may have
-- forgotten that another owner followed. Of a claim that it forgot the epoch tells the time,
-- and so when the lease that came with it ended.
local function may_write(request, owner, epoch, log_id, run_id, now, lease_ms)
  if log_id ~= request.log_id then return false end
  if epoch > request.epoch then return LIVE[request.status] and now < epoch + lease_ms end
  if epoch < request.epoch or owner ~= request.owner or not OWNED[request.status] then
    return false
  end
  return request.run_id == run_id or now < request.lease_until_ms
end

-- Makes `owner` the owner: a claim, or one that the store has forgotten (P2, P15).
local function own(request, owner, epoch, now)
  local started = request.started_ms > 0
  request.status, request.owner, request.epoch = 'generating', owner, epoch
  request.reopen_tokens = 0
  server.call('HSET', request.r, 'status', 'generating', 'owner', owner, 'epoch', int(epoch),
    'reopen_tokens', '0', 'started_ms', int(started and request.started_ms or now))
  server.call('ZREM', request.q, request.id)
  publish_state(request, started and 'failed_over' or 'claimed')
end

local function set_lease(request, until_ms)
  server.call('HSET', request.r, 'lease_until_ms', int(until_ms))
  server.call('ZADD', request.lease, int(until_ms), request.id)
end

-- Takes the request out of an owner's hands, into `status`.
local function disown(request, status)
  request.status = status
  server.call('HSET', request.r, 'status', status, 'owner', '', 'lease_until_ms', '0',
    'reopen_tokens', '0')
  server.call('ZREM', request.lease, request.id)
  server.call('ZREM', request.q, request.id)
  if not LIVE[status] then server.call('ZREM', request.live, request.id) end
end

local function expire(request, at_ms)
  server.call('PEXPIREAT', request.r, int(at_ms))
  server.call('PEXPIREAT', request.c, int(at_ms))
end

-- Cancel or reap: the epoch grows, so that whoever owned the request is fenced.
local function take_away(request, status, reason, expires_ms)
  local owned = OWNED[request.status]
  disown(request, status)
  server.call('HINCRBY', request.r, 'epoch', 1)
  expire(request, expires_ms)
  if owned then publish_position('fenced', request) end
  publish_state(request, reason)
  return position('ok', request)
end

-- Whether a client may have one more live request, and where in the queue it would stand (P17).
-- A client's requests stand quantum_ms apart, so that those of others come between them; what
-- it asked for is forgotten as that time passes, and puts it back MAX_AHEAD_MS at most.
-- KEYS  s, t: the client's requests by the time of their admission; when its next one stands
-- ARGV  2 request_id  3 limit, 0 for none  4 quantum_ms
-- reply {1, place_ms}, or {0, request_id, admitted ms ago, …}: those that count
local function lore_admit(keys, args)
  local now, limit, quantum = clock(args[1]), tonumber(args[3]), tonumber(args[4])
  local next_ms = tonumber(server.call('GET', keys[2]) or '0')
  server.call('ZREMRANGEBYSCORE', keys[1], '-inf', int(now - COUNTED_MS))
  if server.call('ZSCORE', keys[1], args[2]) then
    return {1, math.max(now, next_ms - quantum)}
  end
  if limit > 0 and server.call('ZCARD', keys[1]) >= limit then
    local reply, live = {0}, server.call('ZRANGE', keys[1], 0, -1, 'WITHSCORES')
    for i = 1, #live, 2 do
      reply[i + 1], reply[i + 2] = live[i], now - tonumber(live[i + 1])
    end
    return reply
  end
  local place = math.min(math.max(now, next_ms), now + MAX_AHEAD_MS)
  if quantum > 0 then
    server.call('SET', keys[2], int(place + quantum), 'PXAT', int(place + quantum))
  end
  if limit > 0 then
    server.call('ZADD', keys[1], int(now), args[2])
    server.call('PEXPIREAT', keys[1], int(now + COUNTED_MS))
  end
  return {1, place}
end

-- Accept a request, or find it.
-- ARGV  2 queue_limit  3 server run id  4 request_id  5 subject  6 body  7 fingerprint
--       8 ack  9 window  10… the fields wanted, and after them, if it has one: 'place', place_ms
-- reply {outcome, created 0|1, values of the fields wanted…}; {"full", 0} creates nothing
local function lore_open(keys, args)
  local now = clock(args[1])
  local placed = args[#args - 1] == 'place'
  local wanted = {unpack(args, 10, placed and #args - 2 or #args)}
  local created = server.call('EXISTS', keys[1]) == 0
  if created then
    if server.call('ZCARD', keys[3]) >= tonumber(args[2]) then return {'full', 0} end
    local ms = int(now)
    local place = placed and args[#args] or ms
    server.call('HSET', keys[1], 'status', 'queued', 'request_id', args[4], 'subject', args[5],
      'body', args[6], 'fingerprint', args[7], 'ack', args[8], 'window', args[9],
      'run_id', args[3], 'log_id', string.format('%x', now), 'parent_log_id', '',
      'fork_seq', '1', 'next_seq', '1', 'owner', '', 'epoch', '0', 'generated_tokens', '0',
      'acked_seq', '0', 'acked_tokens', '0', 'reopen_tokens', '0', 'prompt_tokens', '0',
      'finish_reason', '', 'error', '', 'created_ms', ms, 'started_ms', '0',
      'progress_ms', ms, 'finished_ms', '0', 'lease_until_ms', '0',
      'place_ms', place)
    server.call('ZADD', keys[3], place, args[4])
    server.call('ZADD', keys[5], ms, args[4])
    server.call('PUBLISH', 'lore:wake', string.match(keys[1], '{p(%d+)}'))
  end
  return {'ok', created and 1 or 0, unpack(server.call('HMGET', keys[1], unpack(wanted)))}
end

-- The lease that lapsed first, else the first in the queue. An id whose hash is gone, or in
-- another state than its place says, is dropped on the way.
local function next_claimable(q, lease, live, now)
  local tag = string.sub(q, 1, -2)
  for _ = 1, 100 do
    local lapsed = server.call('ZRANGEBYSCORE', lease, '-inf', int(now), 'LIMIT', 0, 1)[1]
    local id = lapsed or server.call('ZRANGE', q, 0, 0)[1]
    if not id then return nil end
    local request = load(tag .. 'r:' .. id, tag .. 'c:' .. id, q, lease, live)
    if request and (lapsed and OWNED[request.status] or request.status == 'queued') then
      return request
    end
    server.call('ZREM', lapsed and lease or q, id)
    if not request then server.call('ZREM', live, id) end
  end
end

-- Take the partition's next request (P15), forking its log when its tail may be lost (P4).
-- KEYS  q, lease, live
-- ARGV  2 owner  3 lease_ms  4 server run id  5… the fields wanted
-- reply the values of the fields wanted, or nil when nothing can be claimed
local function lore_claim(keys, args)
  local now = clock(args[1])
  local request = next_claimable(keys[1], keys[2], keys[3], now)
  if not request then return nil end
  local epoch = math.max(request.epoch + 1, now)
  if request.run_id ~= args[4] then
    server.call('HSET', request.r, 'log_id', string.format('%x', epoch),
      'parent_log_id', request.log_id, 'fork_seq', int(request.next_seq), 'run_id', args[4])
  end
  own(request, args[2], epoch, now)
  set_lease(request, now + tonumber(args[3]))
  server.call('HSET', request.r, 'progress_ms', int(now))
  server.call('ZADD', request.live, int(now), request.id)
  return server.call('HMGET', request.r, unpack(args, 5))
end

local CHUNKS = 9 -- where the chunks begin in lore_append's ARGV

-- Why these chunks cannot be appended, or nil (P2).
local function judge(request, args)
  local tokens, expected = request.generated_tokens, nil
  for i = CHUNKS, #args, 4 do
    local seq = tonumber(args[i])
    expected = expected or math.min(seq, request.next_seq)
    if seq > expected then return 'gap' end
    if seq < expected or seq < 1 then return 'conflict' end
    if seq < request.next_seq then
      local entry = server.call('XRANGE', request.c, args[i] .. '-0', args[i] .. '-0')[1]
      local have = entry and entry[2]
      if not have or have[2] ~= args[i + 1] or have[4] ~= args[i + 2] or have[6] ~= args[i + 3]
      then
        return 'conflict'
      end
    else
      if tonumber(args[i + 3]) < tokens then return 'conflict' end
      tokens = tonumber(args[i + 3])
    end
    expected = expected + 1
  end
end

-- Append chunks and renew the lease (P2, P5, P15).
-- ARGV  2 owner  3 epoch  4 log_id  5 window  6 reopen_tokens  7 lease_ms  8 server run id
--       9… per chunk: seq, text, token ids, tokens so far
local function lore_append(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local epoch, now = tonumber(args[3]), clock(args[1])
  if not may_write(request, args[2], epoch, args[4], args[8], now, tonumber(args[7])) then
    return position('fenced', request)
  end
  local refusal = judge(request, args)
  if refusal then return position(refusal, request) end

  local at_ms, first = int(now), request.next_seq
  if epoch > request.epoch then own(request, args[2], epoch, now) end
  for i = CHUNKS, #args, 4 do
    if tonumber(args[i]) >= first then
      server.call('XADD', request.c, args[i] .. '-0',
        't', args[i + 1], 'i', args[i + 2], 'n', args[i + 3], 'a', at_ms, 'l', args[4])
      publish(request, 'c ' .. args[i] .. ' ' .. args[i + 3] .. ' ' .. at_ms .. ' ' .. args[4]
        .. '\n' .. args[i + 1])
      request.next_seq = request.next_seq + 1
      request.generated_tokens = tonumber(args[i + 3])
    end
  end
  if request.next_seq > first then
    request.progress_ms = now
    server.call('ZADD', request.live, at_ms, request.id)
  end
  if #args >= CHUNKS then request.run_id = args[8] end
  local was = request.status
  local reopen_tokens = tonumber(args[6])
  local closed = reopen_tokens > request.acked_tokens
  request.status = closed and 'paused' or 'generating'
  local lease_until = int(now + tonumber(args[7]))
  server.call('HSET', request.r, 'status', request.status, 'next_seq', int(request.next_seq),
    'generated_tokens', int(request.generated_tokens), 'window', args[5],
    'reopen_tokens', closed and args[6] or '0', 'run_id', request.run_id,
    'progress_ms', int(request.progress_ms), 'lease_until_ms', lease_until)
  server.call('ZADD', request.lease, lease_until, request.id)
  if request.status ~= was then publish_state(request, closed and 'paused' or 'resumed') end
  return position('ok', request)
end

local FIRST = 21 -- where the chunks begin in lore_reinstate's ARGV

-- Take a request back from its owner that this server has forgotten with its data (P3). One
-- that is there is left as it is: the reply says whether it is still this owner's.
-- ARGV  2 owner  3 epoch  4 log_id  5 parent_log_id  6 fork_seq  7 subject  8 body
--       9 fingerprint  10 ack  11 window  12 acked_seq  13 acked_tokens  14 prompt_tokens
--       15 created_ms  16 started_ms  17 generated_tokens  18 next_seq  19 lease_ms
--       20 server run id  21… per chunk, from the first on: seq, text, token ids, tokens so far
local function lore_reinstate(keys, args)
  local now, request = clock(args[1]), load(unpack(keys))
  if request then
    local may = may_write(request, args[2], tonumber(args[3]), args[4], args[20], now,
      tonumber(args[19]))
    return position(may and 'ok' or 'fenced', request)
  end
  local at_ms = int(now)
  server.call('HSET', keys[1], 'status', 'generating', 'subject', args[7], 'body', args[8],
    'request_id', string.match(keys[1], 'r:(.*)$'), 'fingerprint', args[9], 'ack', args[10],
    'window', args[11], 'run_id', args[20], 'log_id', args[4], 'parent_log_id', args[5],
    'fork_seq', args[6], 'next_seq', args[18], 'owner', args[2], 'epoch', args[3],
    'generated_tokens', args[17], 'acked_seq', args[12], 'acked_tokens', args[13],
    'reopen_tokens', '0', 'prompt_tokens', args[14], 'finish_reason', '', 'error', '',
    'created_ms', args[15], 'started_ms', args[16], 'progress_ms', at_ms, 'finished_ms', '0',
    'lease_until_ms', int(now + tonumber(args[19])))
  for i = FIRST, #args, 4 do
    server.call('XADD', keys[2], args[i] .. '-0',
      't', args[i + 1], 'i', args[i + 2], 'n', args[i + 3], 'a', at_ms, 'l', args[4])
  end
  request = load(unpack(keys))
  server.call('ZADD', request.lease, int(request.lease_until_ms), request.id)
  server.call('ZADD', request.live, at_ms, request.id)
  publish_state(request, 'failed_over')
  return position('ok', request)
end

-- The reader has everything up to a seq (P9); opens a closed window that it frees (P6).
-- ARGV  2 seq
local function lore_ack(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local seq = tonumber(args[2])
  if seq >= request.next_seq then return position('ahead', request) end
  if seq <= request.acked_seq then return position('ok', request) end
  local entry = server.call('XRANGE', request.c, args[2] .. '-0', args[2] .. '-0')[1]
  if not entry then return position('ahead', request) end

  local now = clock(args[1])
  request.acked_seq, request.acked_tokens = seq, tonumber(entry[2][6])
  server.call('HSET', request.r, 'acked_seq', args[2], 'acked_tokens', entry[2][6],
    'progress_ms', int(now))
  if LIVE[request.status] then server.call('ZADD', request.live, int(now), request.id) end
  publish(request, 'a ' .. args[2] .. ' ' .. entry[2][6])
  if request.status == 'paused' and request.acked_tokens >= request.reopen_tokens then
    request.status = 'generating'
    server.call('HSET', request.r, 'status', 'generating', 'reopen_tokens', '0')
    publish_position('ok', request)
    publish_state(request, 'resumed')
  end
  return position('ok', request)
end

-- End a request as done or failed (P13).
-- ARGV  2 owner  3 epoch  4 next_seq  5 status  6 finish_reason  7 error  8 prompt_tokens
--       9 retention_ms  10 log_id  11 server run id
local function lore_finish(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local epoch, next_seq = tonumber(args[3]), tonumber(args[4])
  if request.status == args[5] and request.epoch == epoch then return position('ok', request) end
  local now = clock(args[1])
  if not may_write(request, args[2], epoch, args[10], args[11], now, 0) then
    return position('fenced', request)
  end
  if request.next_seq < next_seq then return position('gap', request) end
  if request.next_seq > next_seq then return position('conflict', request) end

  if epoch > request.epoch then own(request, args[2], epoch, now) end
  disown(request, args[5])
  server.call('HSET', request.r, 'finish_reason', args[6], 'error', args[7],
    'prompt_tokens', args[8], 'finished_ms', int(now))
  expire(request, now + tonumber(args[9]))
  publish_state(request, 'ended')
  return position('ok', request)
end

-- Stop a request for good (P14).
-- ARGV  2 retention_ms
local function lore_cancel(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  if request.status == 'cancelled' then return position('ok', request) end
  if not LIVE[request.status] and request.status ~= 'reaped' then
    return position('refused', request)
  end
  local now = clock(args[1])
  server.call('HSET', request.r, 'finish_reason', 'cancelled', 'finished_ms', int(now))
  return take_away(request, 'cancelled', 'ended', now + tonumber(args[2]))
end

-- Take a request that made no progress from its owner (P16).
-- ARGV  2 idle_ms  3 retention_ms
local function lore_reap(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local now = clock(args[1])
  if not OWNED[request.status] or now - request.progress_ms < tonumber(args[2]) then
    return position('refused', request)
  end
  return take_away(request, 'reaped', 'reaped', now + tonumber(args[3]))
end

-- Put a request back into the queue, in the place that it had.
local function enqueue(request, reason)
  disown(request, 'queued')
  server.call('ZADD', request.q, int(request.place_ms), request.id)
  publish_state(request, reason)
  wake(request)
  return position('ok', request)
end

-- Queue a reaped request again (P16).
local function lore_revive(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  if request.status ~= 'reaped' then return position('refused', request) end
  local now = int(clock(args[1]))
  server.call('PERSIST', request.r)
  server.call('PERSIST', request.c)
  server.call('HSET', request.r, 'progress_ms', now)
  server.call('ZADD', request.live, now, request.id)
  return enqueue(request, 'revived')
end

-- Hand a request back to the queue.
-- ARGV  2 owner  3 epoch
local function lore_release(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local same = request.epoch == tonumber(args[3])
  if same and request.status == 'queued' then return position('ok', request) end
  if not same or request.owner ~= args[2] or not OWNED[request.status] then
    return position('fenced', request)
  end
  return enqueue(request, 'released')
end

-- Renew the leases of one owner in one partition (P15).
-- KEYS  q, lease, live, then per request r
-- ARGV  2 owner  3 lease_ms  4 server run id  5… per request its epoch and log_id
-- reply a position per request, in order
local function lore_renew(keys, args)
  local now = clock(args[1])
  local positions = {}
  for i = 4, #keys do
    local request = load(keys[i], nil, keys[1], keys[2], keys[3])
    local epoch, log_id = tonumber(args[2 * i - 3]), args[2 * i - 2]
    if not request then
      positions[#positions + 1] = unknown()
    elseif not may_write(request, args[2], epoch, log_id, args[4], now, tonumber(args[3])) then
      positions[#positions + 1] = position('fenced', request)
    else
      if epoch > request.epoch then own(request, args[2], epoch, now) end
      set_lease(request, now + tonumber(args[3]))
      positions[#positions + 1] = position('ok', request)
    end
  end
  return positions
end

-- The place in the queue of the request that a claim would take.
-- KEYS  q, lease
-- reply place_ms, or nil when nothing can be claimed
local function lore_waiting(keys, args)
  local now = int(clock(args[1]))
  local lapsed = server.call('ZRANGEBYSCORE', keys[2], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  if lapsed[1] then
    local key = string.sub(keys[1], 1, -2) .. 'r:' .. lapsed[1]
    local kept = server.call('HMGET', key, 'place_ms', 'created_ms')
    return tonumber(kept[1] or kept[2] or lapsed[2])
  end
  local waiting = server.call('ZRANGE', keys[1], 0, 0, 'WITHSCORES')
  return waiting[2] and tonumber(waiting[2])
end

-- What grows the data set is refused when the server's memory is full; what shrinks it or
-- lets it expire is not.
local function register(name, callback, flag)
  server.register_function{
    function_name = name, callback = callback, flags = flag and {flag} or {},
  }
end

register('lore_admit', lore_admit)
register('lore_open', lore_open)
register('lore_claim', lore_claim)
register('lore_append', lore_append)
register('lore_reinstate', lore_reinstate)
register('lore_revive', lore_revive)
register('lore_ack', lore_ack, 'allow-oom')
register('lore_finish', lore_finish, 'allow-oom')
register('lore_cancel', lore_cancel, 'allow-oom')
register('lore_reap', lore_reap, 'allow-oom')
register('lore_release', lore_release, 'allow-oom')
register('lore_renew', lore_renew, 'allow-oom')
register('lore_waiting', lore_waiting, 'no-writes')
