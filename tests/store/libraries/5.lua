#!lua name=lore
--[[
Lore's state changes: each one an atomic call on the keys of one partition. Only appends to many
requests travel in one call, across partitions where the server is of no cluster.

Theory of operation. A request is a hash (r) with its log, a stream (c) whose entry ids are
"<seq>-0". Three sorted sets of the partition say where it is: q (waiting, by place_ms),
lease (owned, by the end of the lease) and live (queued or owned, by last progress). Every
function reads, judges, and only then writes, because functions do not roll back; what it
publishes goes out in the same atomic step. All of them may be repeated, also after being broken
off: a server of a cluster does that to a function which asks for a key that is not there, or
not there any more, while its slot is on the way to another server. `twin` is the
same in Python, and tests/store holds the two together; protocol rules (P…) are explained
in PROTOCOL.md, and the lifecycle table (P13) is in protocol/lifecycle.py.

Common to all functions:
  KEYS     names in one slot (lore_append_all says its own). The functions on one request take
           the five keys r, c, q, lease, live; the claimed or waiting request's own keys cannot
           be known before and are built from the partition's prefix, in the same slot.
  ARGV[1]  now in ms; 0 means the server's clock (tests hand the clock in).
  reply    a position: {outcome, status, next_seq, acked_seq, acked_tokens}, status "" when
           the request is unknown. open, append_all, claim, renew and waiting say their own.

Published (payloads are split at blanks, without a parser):
  n channel   c <seq> <tokens> <at_ms> <log_id>\n<text>  |  a <acked_seq> <acked_tokens>  |
              s <status> <reason>
  b channel   <outcome> <status> <next_seq> <acked_seq> <acked_tokens>
  wake channel  the partition's number, two digits

Versions. A client loads this library when the server has no library "lore", an older VERSION,
or another text with the same VERSION (which only a developer sees: VERSION is raised with
every released change). It never replaces a newer one, so that two releases can run side by
side in a rolling upgrade; hence a newer VERSION must serve older callers: arguments are
only ever added at the end, and an absent one means the old behaviour.
]]

local VERSION = 5

local OWNED = {generating = true, paused = true}
local LIVE = {queued = true, generating = true, paused = true}
local MAX_AHEAD_MS = 3600000
local COUNTED_MS = 86400000
local MINUTE_MS = 60000
local LISTED = 64
local LOOKED_AT = 1000
local PARTITIONS = 64
local DELETED_MS = 3600000

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
    'progress_ms', 'lease_until_ms', 'place_ms', 'tries', 'alone_until_ms', 'forks')
  if not v[1] then return nil end
  local tag, id = string.match(r, '^(.-)r:(.*)$')
  return {
    r = r, c = c, q = q, lease = lease, live = live, tag = tag, id = id,
    status = v[1], owner = v[2], epoch = tonumber(v[3]), log_id = v[4], run_id = v[5],
    next_seq = tonumber(v[6]), generated_tokens = tonumber(v[7]), acked_seq = tonumber(v[8]),
    acked_tokens = tonumber(v[9]), reopen_tokens = tonumber(v[10]), created_ms = tonumber(v[11]),
    started_ms = tonumber(v[12]), progress_ms = tonumber(v[13]),
    lease_until_ms = tonumber(v[14]), place_ms = tonumber(v[15] or v[11]),
    tries = tonumber(v[16] or '0'), alone_until_ms = tonumber(v[17] or '0'), forks = v[18] or '',
  }
end

-- A number of the request that lore_append_all looks up only when it needs it.
local function number_of(request, name)
  return request[name] or tonumber(server.call('HGET', request.r, name))
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

local function wake(tag)
  server.call('SPUBLISH', tag .. 'wake', string.match(tag, '{p(%d+)}'))
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
  return request.run_id == run_id or now < number_of(request, 'lease_until_ms')
end

-- What says that a request was deleted.
local function deleted_key(r)
  return (string.gsub(r, 'r:', 'x:', 1))
end

-- Makes `owner` the owner: a claim, or one that the store has forgotten (P2, P15).
local function own(request, owner, epoch, now)
  local started_ms = number_of(request, 'started_ms')
  local started = started_ms > 0
  request.status, request.owner, request.epoch = 'generating', owner, epoch
  request.reopen_tokens = 0
  server.call('HSET', request.r, 'status', 'generating', 'owner', owner, 'epoch', int(epoch),
    'reopen_tokens', '0', 'started_ms', int(started and started_ms or now))
  server.call('ZREM', request.q, request.id)
  publish_state(request, started and 'failed_over' or 'claimed')
end

-- The forks of a log that leaves the present one where it ends (protocol/fork.py).
local function fork(request)
  local seq = request.next_seq
  local older = string.gsub(request.forks, ':(%d+)', function(first)
    return ':' .. int(math.min(tonumber(first), seq))
  end)
  return older .. (older == '' and '' or ' ') .. request.log_id .. ':' .. int(seq)
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

-- Of each client three things are counted: the requests not known to have ended (s), those of
-- the last minute (m), and the tokens that those may use, or have used once they ended (k).
-- All functions here take s, t, m, k: the requests by the time of their admission; when the
-- client's next one stands in the queue; those of the last minute; tokens by request, and
-- 'sum'. Callers of before VERSION 3 give s and t alone.

-- Lets a request count for so many tokens; nil for none, and no longer.
local function count(k, id, tokens)
  local before = tonumber(server.call('HGET', k, id) or '0')
  if tokens then
    server.call('HSET', k, id, int(tokens))
  else
    server.call('HDEL', k, id)
  end
  if (tokens or 0) ~= before then server.call('HINCRBY', k, 'sum', int((tokens or 0) - before)) end
end

-- What was admitted a minute ago counts no more.
local function end_minute(m, k, now)
  local last = int(now - MINUTE_MS)
  local over = server.call('ZRANGEBYSCORE', m, '-inf', last)
  if #over == 0 then return end
  server.call('ZREMRANGEBYSCORE', m, '-inf', last)
  if server.call('EXISTS', k) == 0 then return end
  for _, id in ipairs(over) do count(k, id, nil) end
end

-- Of the requests not known to have ended, LISTED at most with their age: id, ms, … The clock
-- picks which, when there are many, so that in time it picks all.
local function some_open(s, now)
  local first = now % math.max(1, server.call('ZCARD', s) - LISTED + 1)
  local open = server.call('ZRANGE', s, int(first), int(first + LISTED - 1), 'WITHSCORES')
  for i = 2, #open, 2 do open[i] = now - tonumber(open[i]) end
  return open
end

-- How long until `over` tokens of the last minute count no more, as far as LOOKED_AT tell.
local function wait_for_tokens(m, k, over, now)
  local minute, room = server.call('ZRANGE', m, 0, LOOKED_AT - 1, 'WITHSCORES'), now
  for i = 1, #minute, 2 do
    over = over - tonumber(server.call('HGET', k, minute[i]) or '0')
    room = tonumber(minute[i + 1])
    if over <= 0 then break end
  end
  return room + MINUTE_MS - now
end

-- The limit that one more request with so many tokens is over, and for how long, 0 when nobody
-- can tell; or nil.
local function refusal(keys, streams, requests, tokens, wanted, now)
  local s, _, m, k = unpack(keys)
  if streams > 0 and server.call('ZCARD', s) >= streams then return 'streams', 0 end
  local limit, wait = nil, 0
  local asked = requests > 0 and server.call('ZCARD', m) or 0
  if requests > 0 and asked >= requests then
    local at = asked - requests
    local entry = server.call('ZRANGE', m, at, at, 'WITHSCORES')
    limit, wait = 'requests', tonumber(entry[2]) + MINUTE_MS - now
  end
  if tokens > 0 then
    local over = tonumber(server.call('HGET', k, 'sum') or '0') + wanted - tokens
    local longer = over > 0 and wait_for_tokens(m, k, over, now)
    if longer and longer >= wait then limit, wait = 'tokens', longer end
  end
  return limit, wait
end

-- A client's requests stand quantum_ms apart in the queue, so that those of others come between
-- them; what it asked for is forgotten as that time passes, and puts it back MAX_AHEAD_MS at
-- most. How many of its own stand ahead decides when the queue is nearly full.
local function placed(place, quantum, now)
  return {1, place, quantum > 0 and math.floor((place - now) / quantum) or 0}
end

-- Whether a client may have one more request, and where in the queue it would stand (P17).
-- ARGV  2 request_id  3 streams, 0 for no limit  4 quantum_ms  5 requests and 6 tokens a minute,
--       0 for no limit, or absent  7 tokens that this request may use
-- reply {1, place_ms, ahead}, or {0, limit, wait_ms, request_id, admitted ms ago, …}: some of
--       those that count; without ARGV 5 {0, request_id, admitted ms ago, …}
local function lore_admit(keys, args)
  local now, id, quantum = clock(args[1]), args[2], tonumber(args[4])
  local streams = tonumber(args[3])
  local requests, tokens = tonumber(args[5] or '0'), tonumber(args[6] or '0')
  local wanted = tonumber(args[7] or '0')
  local s, t, m, k = unpack(keys)
  local next_ms = tonumber(server.call('GET', t) or '0')
  server.call('ZREMRANGEBYSCORE', s, '-inf', int(now - (streams > 0 and COUNTED_MS or MINUTE_MS)))
  if m then end_minute(m, k, now) end
  if server.call('ZSCORE', s, id) or m and server.call('ZSCORE', m, id) then
    return placed(math.max(now, next_ms - quantum), quantum, now)
  end
  local limit, wait = refusal(keys, streams, requests, tokens, wanted, now)
  if limit then
    local open = limit == 'requests' and {} or some_open(s, now)
    return m and {0, limit, wait, unpack(open)} or {0, unpack(open)}
  end
  local place = math.min(math.max(now, next_ms), now + MAX_AHEAD_MS)
  if quantum > 0 then
    server.call('SET', t, int(place + quantum), 'PXAT', int(place + quantum))
  end
  if streams > 0 or tokens > 0 then
    server.call('ZADD', s, int(now), id)
    server.call('PEXPIREAT', s, int(now + COUNTED_MS))
  end
  if requests > 0 or tokens > 0 then
    server.call('ZADD', m, int(now), id)
    server.call('PEXPIREAT', m, int(now + MINUTE_MS))
  end
  if tokens > 0 then
    count(k, id, wanted)
    server.call('PEXPIREAT', k, int(now + MINUTE_MS))
  end
  return placed(place, quantum, now)
end

-- These requests of the client have ended.
-- ARGV  2… per request its id, and the tokens it used, '' when nobody knows
local function lore_settle(keys, args)
  local s, _, _, k = unpack(keys)
  for i = 2, #args, 2 do
    server.call('ZREM', s, args[i])
    if args[i + 1] ~= '' and server.call('HEXISTS', k, args[i]) == 1 then
      count(k, args[i], tonumber(args[i + 1]))
    end
  end
end

-- This request, which was admitted, has not come to be.
-- ARGV  2 request_id
local function lore_leave(keys, args)
  local s, _, m, k = unpack(keys)
  server.call('ZREM', s, args[2])
  server.call('ZREM', m, args[2])
  count(k, args[2], nil)
end

local NAMED = {place = true, ahead = true, traceparent = true}

-- Accept a request, or find it.
-- ARGV  2 queue_limit  3 server run id  4 request_id  5 subject  6 body  7 fingerprint
--       8 ack  9 window  10… the fields wanted, and after them, if it has them: 'place',
--       place_ms, 'ahead', how many of its client's requests stand ahead of it,
--       'traceparent', the context of its trace
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
    if server.call('EXISTS', deleted_key(keys[1])) == 1 then return {'unknown', 0} end
    local waiting, limit = server.call('ZCARD', keys[3]), tonumber(args[2])
    local free, ahead = limit - waiting, tonumber(given.ahead or '0')
    if free <= 0 or (2 * waiting >= limit and ahead >= PARTITIONS * free) then
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
-- ARGV  2 owner  3 lease_ms  4 server run id  5… the fields wanted, and after them, to leave
--       out what was tried before: 'untried'
-- reply the values of the fields wanted, or nil when nothing can be claimed
local function lore_claim(keys, args)
  local now, untried = clock(args[1]), args[#args] == 'untried'
  local request = next_claimable(keys[1], keys[2], keys[3], now, untried)
  if not request then return nil end
  local epoch = math.max(request.epoch + 1, now)
  local other_store = request.run_id ~= args[4]
  if other_store then request.tries = 0 end
  if other_store or now < request.alone_until_ms then
    server.call('HSET', request.r, 'log_id', string.format('%x', epoch),
      'forks', fork(request), 'run_id', args[4])
  end
  own(request, args[2], epoch, now)
  set_lease(request, now + tonumber(args[3]))
  server.call('HSET', request.r, 'progress_ms', int(now), 'tries', int(request.tries + 1))
  server.call('ZADD', request.live, int(now), request.id)
  return server.call('HMGET', request.r, unpack(args, 5, untried and #args - 1 or #args))
end

-- Why the chunks args[first..last] cannot be appended, or nil (P2). Four arguments each: seq,
-- text, token ids, tokens so far.
local function judge(request, args, first, last)
  local tokens, expected = request.generated_tokens, nil
  for i = first, last, 4 do
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

local function add(scores, score, member)
  scores[#scores + 1], scores[#scores + 2] = score, member
end

-- What an append has to know of a request: half of what `load` reads, twenty times a second.
local function look(r, c, by)
  local v = server.call('HMGET', r, 'status', 'owner', 'epoch', 'log_id', 'run_id', 'next_seq',
    'generated_tokens', 'acked_seq', 'acked_tokens', 'reopen_tokens', 'tries', 'window')
  if not v[1] then return nil end
  return {
    r = r, c = c, q = by.q, tag = by.tag, id = string.sub(r, #by.tag + 3),
    status = v[1], owner = v[2], epoch = tonumber(v[3]), log_id = v[4], run_id = v[5],
    next_seq = tonumber(v[6]), generated_tokens = tonumber(v[7]), acked_seq = tonumber(v[8]),
    acked_tokens = tonumber(v[9]), reopen_tokens = tonumber(v[10]),
    tries = tonumber(v[11] or '0'), window = v[12],
  }
end

-- Append chunks to one request and renew its lease (P2, P5, P15). `by` is what the requests of
-- a partition have in common.
local function append(r, c, by, epoch, log_id, window, reopen, args, first, last)
  local request = look(r, c, by)
  if not request then return unknown() end
  if not may_write(request, by.owner, epoch, log_id, by.run_id, by.now, by.lease_ms) then
    return position('fenced', request)
  end
  local refusal = judge(request, args, first, last)
  if refusal then return position(refusal, request) end

  local at_ms, begun = by.at_ms, request.next_seq
  if epoch > request.epoch then own(request, by.owner, epoch, by.now) end
  local channel = request.tag .. 'n:' .. request.id
  for i = first, last, 4 do
    if tonumber(args[i]) >= begun then
      server.call('XADD', c, args[i] .. '-0',
        't', args[i + 1], 'i', args[i + 2], 'n', args[i + 3], 'a', at_ms, 'l', log_id)
      server.call('SPUBLISH', channel, 'c ' .. args[i] .. ' ' .. args[i + 3] .. ' ' .. at_ms
        .. ' ' .. log_id .. '\n' .. args[i + 1])
      request.next_seq = request.next_seq + 1
      request.generated_tokens = tonumber(args[i + 3])
    end
  end
  add(by.leases, by.lease_until, request.id)
  if request.next_seq > begun then
    add(by.moved, at_ms, request.id)
    server.call('HSET', r, 'next_seq', int(request.next_seq), 'generated_tokens', args[last],
      'progress_ms', at_ms, 'lease_until_ms', by.lease_until)
  else
    server.call('HSET', r, 'lease_until_ms', by.lease_until)
  end

  -- What seldom changes is written when it does.
  local was, reopen_tokens = request.status, tonumber(reopen)
  local closed = reopen_tokens > request.acked_tokens
  local run_id = last >= first and by.run_id or request.run_id
  local told = closed and reopen_tokens or 0
  local tries = (closed or request.next_seq > begun) and 0 or request.tries
  request.status = closed and 'paused' or 'generating'
  if request.status ~= was or run_id ~= request.run_id or told ~= request.reopen_tokens
    or tries ~= request.tries or window ~= request.window
  then
    server.call('HSET', r, 'status', request.status, 'window', window, 'reopen_tokens', int(told),
      'run_id', run_id, 'tries', int(tries))
  end
  if request.status ~= was then publish_state(request, closed and 'paused' or 'resumed') end
  return position('ok', request)
end

-- What the requests of one partition in one call have in common; `leases` and `moved` collect
-- the scores for its two indexes.
local function part_of(q, lease, live, owner, lease_ms, run_id, now)
  return {
    q = q, tag = string.match(q, '^(.*)q$'), lease = lease, live = live,
    owner = owner, lease_ms = tonumber(lease_ms), run_id = run_id, now = now,
    at_ms = int(now), lease_until = int(now + tonumber(lease_ms)), leases = {}, moved = {},
  }
end

local function index(by)
  if #by.leases > 0 then server.call('ZADD', by.lease, unpack(by.leases)) end
  if #by.moved > 0 then server.call('ZADD', by.live, unpack(by.moved)) end
end

-- Append to any number of requests, one after the other, each judged by itself.
-- KEYS  q, lease, live, then r and c of each request of the partition; then the same of other
--       partitions, since VERSION 5 and on a server that is of no cluster
-- ARGV  2 owner  3 lease_ms  4 server run id, then of each request: epoch, log_id, window,
--       reopen_tokens, the number of chunks, and per chunk: seq, text, token ids, tokens so far
-- Replies with a position for each.
local function lore_append_all(keys, args)
  local now, positions, by, k, at = clock(args[1]), {}, nil, 1, 5
  while k <= #keys do
    if string.sub(keys[k], -3) == '}:q' then
      if by then index(by) end
      by = part_of(keys[k], keys[k + 1], keys[k + 2], args[2], args[3], args[4], now)
      k = k + 3
    end
    local first = at + 5
    local last = first + 4 * tonumber(args[at + 4]) - 1
    positions[#positions + 1] = append(keys[k], keys[k + 1], by, tonumber(args[at]), args[at + 1],
      args[at + 2], args[at + 3], args, first, last)
    k, at = k + 2, last + 1
  end
  index(by)
  return positions
end

-- The same for one request, as callers of before VERSION 4 ask.
-- ARGV  2 owner  3 epoch  4 log_id  5 window  6 reopen_tokens  7 lease_ms  8 server run id
--       9… per chunk: seq, text, token ids, tokens so far
local function lore_append(keys, args)
  local by = part_of(keys[3], keys[4], keys[5], args[2], args[7], args[8], clock(args[1]))
  local answer = append(keys[1], keys[2], by, tonumber(args[3]), args[4], args[5], args[6], args,
    9, #args)
  index(by)
  return answer
end

local FIRST = 21 -- where the chunks begin in lore_reinstate's ARGV

-- Take a request back from its owner that this server has forgotten with its data (P3). One
-- that is there is left as it is: the reply says whether it is still this owner's.
-- ARGV  2 owner  3 epoch  4 log_id  5 forks  6 ''  7 subject  8 body  9 fingerprint  10 ack
--       11 window  12 acked_seq  13 acked_tokens  14 prompt_tokens  15 created_ms
--       16 started_ms  17 generated_tokens  18 next_seq  19 lease_ms  20 server run id
--       21… per chunk, from the first on: seq, text, token ids, tokens so far;
--       and after them, if it has one: 'traceparent', the context of its trace
--       Before VERSION 4, 5 was the one log that this one was forked from, and 6 the seq.
local function lore_reinstate(keys, args)
  local now, request, last = clock(args[1]), load(unpack(keys)), #args
  if request then
    local may = may_write(request, args[2], tonumber(args[3]), args[4], args[20], now,
      tonumber(args[19]))
    return position(may and 'ok' or 'fenced', request)
  end
  if server.call('EXISTS', deleted_key(keys[1])) == 1 then return unknown() end
  local at_ms, trace, forks = int(now), '', args[5]
  if forks ~= '' and args[6] ~= '' then forks = forks .. ':' .. args[6] end
  if args[last - 1] == 'traceparent' then
    trace, last = args[last], last - 2
  end
  server.call('HSET', keys[1], 'status', 'generating', 'subject', args[7], 'body', args[8],
    'request_id', string.match(keys[1], 'r:(.*)$'), 'fingerprint', args[9], 'ack', args[10],
    'window', args[11], 'run_id', args[20], 'log_id', args[4], 'forks', forks,
    'next_seq', args[18], 'owner', args[2], 'epoch', args[3],
    'generated_tokens', args[17], 'acked_seq', args[12], 'acked_tokens', args[13],
    'reopen_tokens', '0', 'prompt_tokens', args[14], 'finish_reason', '', 'error', '',
    'created_ms', args[15], 'started_ms', args[16], 'progress_ms', at_ms, 'finished_ms', '0',
    'lease_until_ms', int(now + tonumber(args[19])), 'trace', trace)
  for i = FIRST, last, 4 do
    server.call('XADD', keys[2], args[i] .. '-0',
      't', args[i + 1], 'i', args[i + 2], 'n', args[i + 3], 'a', at_ms, 'l', args[4])
  end
  request = load(unpack(keys))
  server.call('ZADD', request.lease, int(request.lease_until_ms), request.id)
  server.call('ZADD', request.live, at_ms, request.id)
  publish_state(request, 'failed_over')
  return position('ok', request)
end

-- The request, if it is this subject's. Without a subject, anyone's.
local function load_of(keys, subject)
  if subject and server.call('HGET', keys[1], 'subject') ~= subject then return nil end
  return load(unpack(keys))
end

-- The reader has everything up to a seq (P9); opens a closed window that it frees (P6).
-- ARGV  2 seq  3 subject, or absent
local function lore_ack(keys, args)
  local request = load_of(keys, args[3])
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
  server.call('HSET', request.r, 'finish_reason', args[6], 'error', args[7],
    'prompt_tokens', args[8], 'finished_ms', int(now))
  expire(request, now + tonumber(args[9]))
  disown(request, args[5])
  publish_state(request, 'ended')
  return position('ok', request)
end

-- Stop a request for good (P14).
-- ARGV  2 retention_ms  3 subject, or absent
local function lore_cancel(keys, args)
  local request = load_of(keys, args[3])
  if not request then return unknown() end
  if request.status == 'cancelled' then return position('ok', request) end
  if not LIVE[request.status] and request.status ~= 'reaped' then
    return position('refused', request)
  end
  local now = clock(args[1])
  server.call('HSET', request.r, 'finish_reason', 'cancelled', 'finished_ms', int(now))
  return take_away(request, 'cancelled', 'ended', now + tonumber(args[2]))
end

-- Delete a request, stopping it first when it was live. For DELETED_MS nobody opens it again,
-- with a POST that was long on its way, and no owner gives it back after a loss of data (P3).
-- ARGV  2 subject, or absent
local function lore_forget(keys, args)
  local request = load_of(keys, args[2])
  if not request then return unknown() end
  local now = clock(args[1])
  -- First: while the slot is on its way to another server of a cluster, this ends the function.
  server.call('SET', deleted_key(request.r), '', 'PXAT', int(now + DELETED_MS))
  if LIVE[request.status] or request.status == 'reaped' then
    take_away(request, 'cancelled', 'ended', now)
  else
    publish_state(request, 'ended')
  end
  server.call('DEL', request.r, request.c)
  return position('ok', request)
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
  server.call('HSET', request.r, 'alone_until_ms', int(request.lease_until_ms),
    'written_off_tokens', int(request.generated_tokens))
  return take_away(request, 'reaped', 'reaped', now + tonumber(args[3]))
end

-- Put a request back into the queue, in the place that it had.
local function enqueue(request, reason)
  disown(request, 'queued')
  server.call('ZADD', request.q, int(request.place_ms), request.id)
  publish_state(request, reason)
  wake(request.tag)
  return position('ok', request)
end

-- Queue a reaped request again (P16).
-- ARGV  2 subject, or absent
local function lore_revive(keys, args)
  local request = load_of(keys, args[2])
  if not request then return unknown() end
  if request.status ~= 'reaped' then return position('refused', request) end
  local now = int(clock(args[1]))
  server.call('PERSIST', request.r)
  server.call('PERSIST', request.c)
  server.call('HSET', request.r, 'progress_ms', now)
  server.call('ZADD', request.live, now, request.id)
  return enqueue(request, 'revived')
end

-- Hand a request back to the queue. Its claim counts as a try only when the engine has failed,
-- or the owner has: then another hands it back, and the owner believes itself alone until its
-- lease ends (P3).
-- ARGV  2 owner  3 epoch  4 'failed' or 'silent', or absent
local function lore_release(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local same = request.epoch == tonumber(args[3])
  if same and request.status == 'queued' then return position('ok', request) end
  if not same or request.owner ~= args[2] or not OWNED[request.status] then
    return position('fenced', request)
  end
  if not args[4] and request.tries > 0 then
    server.call('HSET', request.r, 'tries', int(request.tries - 1))
  elseif args[4] == 'silent' then
    server.call('HSET', request.r, 'alone_until_ms', int(request.lease_until_ms))
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

-- When the server's memory is full, what begins is refused; what was accepted goes on to its end,
-- beyond the server's limit by as much (P17).
local function register(name, callback, flag)
  server.register_function{
    function_name = name, callback = callback, flags = flag and {flag} or {},
  }
end

register('lore_admit', lore_admit)
register('lore_settle', lore_settle, 'allow-oom')
register('lore_leave', lore_leave, 'allow-oom')
register('lore_open', lore_open)
register('lore_claim', lore_claim, 'allow-oom')
register('lore_append', lore_append, 'allow-oom')
register('lore_append_all', lore_append_all, 'allow-oom')
register('lore_reinstate', lore_reinstate, 'allow-oom')
register('lore_revive', lore_revive)
register('lore_ack', lore_ack, 'allow-oom')
register('lore_finish', lore_finish, 'allow-oom')
register('lore_cancel', lore_cancel, 'allow-oom')
register('lore_forget', lore_forget, 'allow-oom')
register('lore_reap', lore_reap, 'allow-oom')
register('lore_release', lore_release, 'allow-oom')
register('lore_renew', lore_renew, 'allow-oom')
register('lore_waiting', lore_waiting, 'no-writes')
