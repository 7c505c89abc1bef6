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
  if closed or request.next_seq > first then request.tries = 0 end
  request.status = closed and 'paused' or 'generating'
  local lease_until = int(now + tonumber(args[7]))
  server.call('HSET', request.r, 'status', request.status, 'next_seq', int(request.next_seq),
    'generated_tokens', int(request.generated_tokens), 'window', args[5],
    'reopen_tokens', closed and args[6] or '0', 'run_id', request.run_id,
    'progress_ms', int(request.progress_ms), 'lease_until_ms', lease_until,
    'tries', int(request.tries))
  server.call('ZADD', request.lease, lease_until, request.id)
  if request.status ~= was then publish_state(request, closed and 'paused' or 'resumed') end
  return position('ok', request)
end

local FIRST = 20 -- where the chunks begin in lore_reinstate's ARGV

-- Take a request back from its owner that this server has forgotten with its data (P3). One
-- that is there is left as it is: the reply says whether it is still this owner's.
-- ARGV  2 owner  3 epoch  4 log_id  5 forks  6 subject  7 body  8 fingerprint  9 ack
--       10 window  11 acked_seq  12 acked_tokens  13 prompt_tokens  14 created_ms
--       15 started_ms  16 generated_tokens  17 next_seq  18 lease_ms  19 server run id
--       20… per chunk, from the first on: seq, text, token ids, tokens so far;
--       and after them, if it has one: 'traceparent', the context of its trace
local function lore_reinstate(keys, args)
  local now, request, last = clock(args[1]), load(unpack(keys)), #args
  if request then
    local may = may_write(request, args[2], tonumber(args[3]), args[4], args[19], now,
      tonumber(args[18]))
    return position(may and 'ok' or 'fenced', request)
  end
  if server.call('EXISTS', deleted_key(keys[1])) == 1 then return unknown() end
  local at_ms, trace = int(now), ''
  if args[last - 1] == 'traceparent' then
    trace, last = args[last], last - 2
  end
  server.call('HSET', keys[1], 'status', 'generating', 'subject', args[6], 'body', args[7],
    'request_id', string.match(keys[1], 'r:(.*)$'), 'fingerprint', args[8], 'ack', args[9],
    'window', args[10], 'run_id', args[19], 'log_id', args[4], 'forks', args[5],
    'next_seq', args[17], 'owner', args[2], 'epoch', args[3],
    'generated_tokens', args[16], 'acked_seq', args[11], 'acked_tokens', args[12],
    'reopen_tokens', '0', 'prompt_tokens', args[13], 'finish_reason', '', 'error', '',
    'created_ms', args[14], 'started_ms', args[15], 'progress_ms', at_ms, 'finished_ms', '0',
    'lease_until_ms', int(now + tonumber(args[18])), 'trace', trace)
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
