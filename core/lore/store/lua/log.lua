-- Why the chunks args[first..last] cannot be appended, or nil (P2). Each chunk is four arguments:
-- seq, text, token ids, tokens so far.
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

local BRACE = 125 -- }

local function add(scores, score, member)
  scores[#scores + 1], scores[#scores + 2] = score, member
end

-- Reads the fields by which an append is judged.
local function look(r, c, by)
  local v = server.call('HMGET', r, 'status', 'owner', 'epoch', 'log_id', 'run_id', 'next_seq',
    'generated_tokens', 'acked_seq', 'acked_tokens', 'reopen_tokens', 'tries', 'window',
    'unread')
  if not v[1] then return nil end
  return {
    r = r, c = c, q = by.q, tag = by.tag, id = string.sub(r, #by.tag + 3),
    status = v[1], owner = v[2], epoch = tonumber(v[3]), log_id = v[4], run_id = v[5],
    next_seq = tonumber(v[6]), generated_tokens = tonumber(v[7]), acked_seq = tonumber(v[8]),
    acked_tokens = tonumber(v[9]), reopen_tokens = tonumber(v[10]),
    tries = tonumber(v[11] or '0'), window = v[12], unread = v[13] == '1',
  }
end

-- Appends chunks to one request (P2, P5, P15). `by` is what the requests of the partition share in
-- this call (`part_of`).
local function append(r, c, by, epoch, log_id, window, reopen, args, first, last)
  local request = look(r, c, by)
  if not request then return unknown() end
  if not may_write(request, by.owner, epoch, log_id, by.run_id, by.now, by.lease_ms) then
    return position('fenced', request)
  end
  local refusal = judge(request, args, first, last)
  if refusal then return position(refusal, request) end

  local at_ms, begun, renews = by.at_ms, request.next_seq, by.renews
  if epoch > request.epoch then
    own(request, by.owner, epoch, by.now, by.lease_ms)
    renews = true
  end
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
  if request.next_seq > begun then
    server.call('HSET', r, 'next_seq', int(request.next_seq), 'generated_tokens', args[last],
      'progress_ms', at_ms)
  end
  if renews then
    add(by.leases, by.lease_until, request.id)
    add(by.moved, request.next_seq > begun and at_ms or number_of(request, 'progress_ms'),
      request.id)
    server.call('HSET', r, 'lease_until_ms', by.lease_until)
  end

  -- These fields seldom change, so they are written only then.
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

-- The fast path of an append: it comes from the owner, its chunks directly follow the log, and it
-- changes nothing else of the request. Nearly all appends do, so this reads and writes only what it
-- must; the order of `live` is updated at the next renewal. Returns the tokens acknowledged so far,
-- or nil, and then `append` judges.
local function pass(r, c, by, args, at, first, last)
  local v = server.call('HMGET', r, 'next_seq', 'epoch', 'status', 'owner', 'log_id', 'run_id',
    'window', 'tries', 'generated_tokens', 'acked_tokens')
  if last < first or v[1] ~= args[first] or v[2] ~= args[at] or v[3] ~= 'generating' or v[4] ~= by.owner
    or v[5] ~= args[at + 1] or v[6] ~= by.run_id or v[7] ~= args[at + 2]
    or (v[8] or '0') ~= '0' or args[at + 3] ~= '0'
  then
    return nil
  end
  local log_id, at_ms, seq, tokens = v[5], by.at_ms, tonumber(v[1]), tonumber(v[9])
  for i = first, last, 4 do
    local after = tonumber(args[i + 3])
    if tonumber(args[i]) ~= seq or after < tokens then return nil end
    seq, tokens = seq + 1, after
  end
  local channel = by.channels .. string.sub(r, by.id_from)
  for i = first, last, 4 do
    server.call('XADD', c, args[i],
      't', args[i + 1], 'i', args[i + 2], 'n', args[i + 3], 'a', at_ms, 'l', log_id)
    server.call('SPUBLISH', channel, 'c ' .. args[i] .. ' ' .. args[i + 3] .. ' ' .. at_ms
      .. ' ' .. log_id .. '\n' .. args[i + 1])
  end
  server.call('HSET', r, 'next_seq', seq, 'generated_tokens', args[last], 'progress_ms', at_ms)
  return tonumber(v[10])
end

-- What the requests of one call share. `leases` and `moved` collect the scores for the indexes
-- `lease` and `live` of a partition.
local function shared_by(owner, lease_ms, run_id, now, renews)
  return {
    owner = owner, lease_ms = tonumber(lease_ms), run_id = run_id, now = now, renews = renews,
    at_ms = int(now), lease_until = int(now + tonumber(lease_ms)), leases = {}, moved = {},
  }
end

-- Updates the indexes of the partition, if they change.
local function index(by)
  if #by.leases > 0 then
    server.call('ZADD', by.lease, unpack(by.leases))
    by.leases = {}
  end
  if #by.moved > 0 then
    server.call('ZADD', by.live, unpack(by.moved))
    by.moved = {}
  end
end

-- Turns to the requests of another partition.
local function enter(by, q, lease, live)
  index(by)
  by.q, by.lease, by.live = q, lease, live
  by.tag, by.id_from = string.sub(q, 1, -2), #q + 2
  by.channels = by.tag .. 'n:'
end

-- Append to any number of requests, one after the other, each judged by itself.
-- KEYS  q, lease, live, then r and c of each request of the partition; since VERSION 5, on a server
--       outside a cluster, the same of further partitions may follow
-- ARGV  2 owner  3 lease_ms  4 server run id, then for each request: epoch, log_id, window,
--       reopen_tokens, the number of chunks, and per chunk: seq, text, token ids, tokens so far.
--       Last (since VERSION 9), from an owner that renews its leases by the clock, the reply that
--       it wants: 'position' or 'acks'. If it is absent, the append renews the leases.
-- reply a position for each request; with 'acks', for each append that took the fast path, the
--       acknowledged tokens instead
local function lore_append_all(keys, args)
  local now, answers, k, at = clock(args[1]), {}, 1, 5
  local wanted = args[#args]
  local brief = wanted == 'acks'
  local renews = not brief and wanted ~= 'position'
  local by = shared_by(args[2], args[3], args[4], now, renews)
  while k <= #keys do
    if string.byte(keys[k], -3) == BRACE then -- only a partition's queue ends like this
      enter(by, keys[k], keys[k + 1], keys[k + 2])
      k = k + 3
    end
    local first = at + 5
    local last = first + 4 * tonumber(args[at + 4]) - 1
    answers[#answers + 1] = brief and pass(keys[k], keys[k + 1], by, args, at, first, last)
      or append(keys[k], keys[k + 1], by, tonumber(args[at]), args[at + 1],
        args[at + 2], args[at + 3], args, first, last)
    k, at = k + 2, last + 1
  end
  index(by)
  return answers
end

local FIRST = 21 -- where the chunks begin in ARGV of lore_reinstate

-- Take a request back from its owner that this server has lost with its data (P3). A request that
-- exists is left as it is, and the reply says whether it still belongs to this owner.
-- ARGV  2 owner  3 epoch  4 log_id  5 forks  6 '1' from an owner that hears epochs on channel b
--       7 subject  8 body  9 fingerprint  10 ack
--       11 window  12 acked_seq  13 acked_tokens  14 prompt_tokens  15 created_ms
--       16 started_ms  17 generated_tokens  18 next_seq  19 lease_ms  20 server run id
--       21… per chunk, from the first on: seq, text, token ids, tokens so far;
--       then optional pairs: 'traceparent' and the context of its trace, 'model' and its model
local GIVEN = {traceparent = true, model = true}
local function lore_reinstate(keys, args)
  local now, request, last = clock(args[1]), load(unpack(keys)), #args
  if request then
    local may = may_write(request, args[2], tonumber(args[3]), args[4], args[20], now,
      tonumber(args[19]))
    return position(may and 'ok' or 'fenced', request)
  end
  if server.call('GET', deleted_key(keys[1])) == '' then return unknown() end
  local at_ms, given = int(now), {}
  while GIVEN[args[last - 1]] do
    given[args[last - 1]], last = args[last], last - 2
  end
  server.call('HSET', keys[1], 'status', 'generating', 'subject', args[7], 'body', args[8],
    'request_id', string.match(keys[1], 'r:(.*)$'), 'fingerprint', args[9], 'ack', args[10],
    'window', args[11], 'run_id', args[20], 'log_id', args[4], 'forks', args[5],
    'next_seq', args[18], 'owner', args[2], 'epoch', args[3],
    'generated_tokens', args[17], 'acked_seq', args[12], 'acked_tokens', args[13],
    'reopen_tokens', '0', 'prompt_tokens', args[14], 'finish_reason', '', 'error', '',
    'created_ms', args[15], 'started_ms', args[16], 'progress_ms', at_ms, 'finished_ms', '0',
    'lease_until_ms', int(now + tonumber(args[19])), 'trace', given.traceparent or '',
    'model', given.model or '', 'lease_ms', args[19], 'hears_epochs', args[6])
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
