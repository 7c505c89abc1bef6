local NAMED = {place = true, ahead = true, traceparent = true, elsewhere = true}
local ELSEWHERE_MS = 10000

-- Create a request, or find it.
-- ARGV  2 queue_limit  3 server run id  4 request_id  5 subject  6 body  7 fingerprint
--       8 ack  9 window  10… the names of the fields wanted, then optional pairs:
--       'place' and place_ms; 'ahead' and how many of the client's requests stand ahead of it;
--       'traceparent' and the context of its trace; 'elsewhere' and '1' from a caller that tries
--       another partition next with the same name: for ELSEWHERE_MS, other callers with that
--       name get 'full' here too
-- reply {outcome, created 0|1, values of the fields wanted…}. {"full", 0} and {"unknown", 0} create
--       nothing; the latter means that the request was deleted less than DELETED_MS ago
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

-- Whether to leave an answer to generators that have its model, for `others.left_ms` after a claim
-- first passed it over (P15.22). Owners of older releases do not say their model.
local function is_left(request, now, others)
  if not others or request.next_seq == 1 then return false end
  local kept = server.call('HMGET', request.r, 'model', 'passed_ms')
  local model, passed_ms = kept[1] or '', tonumber(kept[2] or '0')
  if model == '' or model == others.model then return false end
  if passed_ms == 0 then
    passed_ms = now
    server.call('HSET', request.r, 'passed_ms', int(now))
  end
  return now < passed_ms + others.left_ms
end

-- The first request of an index up to a score in one of these states. Removes an id whose hash is
-- gone, or whose state does not belong to this index. Passes over what `is_left`, and with
-- `untried` also requests that were claimed before without result.
local function first_of(index, last_ms, states, now, q, lease, live, untried, others)
  local tag, passed = string.sub(q, 1, -2), 0
  for _ = 1, 100 do
    local id = server.call('ZRANGEBYSCORE', index, '-inf', last_ms, 'LIMIT', passed, 1)[1]
    if not id then return nil end
    local request = load(tag .. 'r:' .. id, tag .. 'c:' .. id, q, lease, live)
    if request and states[request.status] then
      if not (untried and request.tries > 0) and not is_left(request, now, others) then
        return request
      end
      passed = passed + 1
    else
      server.call('ZREM', index, id)
      if not request then server.call('ZREM', live, id) end
    end
  end
end

-- The owners that a caller takes for silent, as a set, and for how many ms they must not have
-- renewed a lease. `text` is '<run_id> <silent_ms>' and a line for each owner. It counts only on
-- the server life that it names: another may not have heard from its owners yet (P15.14).
local function silent_of(text, run_id)
  local owners, life, ms = {}, string.match(text or '', '^(%S+) (%d+)\n')
  if not life or life ~= run_id then return owners, 0 end
  for name in string.gmatch(text, '\n([^\n]+)') do owners[name] = true end
  return owners, tonumber(ms)
end

-- Whether an owner whose lease runs has left (P15): its channel has no subscriber, and it has not
-- renewed this lease for `silent_ms`.
local function has_left(request, now, silent_ms)
  if not request.has_channel or not OWNED[request.status] then return false end
  local lease_ms = tonumber(server.call('HGET', request.r, 'lease_ms') or '0')
  if request.lease_until_ms - lease_ms > now - silent_ms then return false end
  return server.call('PUBSUB', 'SHARDNUMSUB', request.tag .. 'o:' .. request.owner)[2] == 0
end

-- Of the requests whose lease runs, the first to lapse whose owner has left.
local function first_left(q, lease, live, now, untried, others, owners, silent_ms)
  if not next(owners) then return nil end
  local tag = string.sub(q, 1, -2)
  local ids = server.call('ZRANGEBYSCORE', lease, '(' .. int(now), '+inf', 'LIMIT', 0, LOOKED_AT)
  for _, id in ipairs(ids) do
    if owners[server.call('HGET', tag .. 'r:' .. id, 'owner')] then
      local request = load(tag .. 'r:' .. id, tag .. 'c:' .. id, q, lease, live)
      if has_left(request, now, silent_ms) and not (untried and request.tries > 0)
        and not is_left(request, now, others)
      then
        return request
      end
    end
  end
end

-- Take the partition's next request (P15): first one with a lapsed lease, else one whose owner has
-- left, else one from the queue. Forks the log when its tail may be lost (P4.2), or when an owner
-- that lives may still believe itself alone (P4.8). The claim counts as one more try. In another
-- life of the store the count begins anew (P15.16), because the store's absence may have ended the
-- owner.
-- KEYS  q, lease, live
-- ARGV  2 owner  3 lease_ms  4 server run id  5… the names of the fields wanted, then optionally:
--       'present' from an owner that has a channel of its own and hears epochs on channel b, or
--       'epochs' from one that only does the latter; 'untried' to leave out what was claimed
--       before; 'silent' and a text (`silent_of`); 'others', the caller's model, left_ms (`is_left`)
-- reply the values of the fields wanted, or nil when nothing can be claimed
local HEARS = {epochs = '1', present = '2'}
local function lore_claim(keys, args)
  local now, last, text, others = clock(args[1]), #args, nil, nil
  if args[last - 2] == 'others' then
    others, last = {model = args[last - 1], left_ms = tonumber(args[last])}, last - 3
  end
  if args[last - 1] == 'silent' then text, last = args[last], last - 2 end
  local untried = args[last] == 'untried'
  if untried then last = last - 1 end
  local hears = HEARS[args[last]]
  if hears then last = last - 1 end
  local q, lease, live = unpack(keys)
  local lease_ms = tonumber(args[3])
  shorten_leases(lease, string.sub(q, 1, -2), now, lease_ms)
  local request = first_of(lease, int(now), OWNED, now, q, lease, live, untried, others)
  local left = not request
    and first_left(q, lease, live, now, untried, others, silent_of(text, args[4]))
  if left then
    request = left
    request.alone_until_ms = left.lease_until_ms
  end
  request = request
    or first_of(q, '+inf', {queued = true}, now, q, lease, live, untried, others)
  if not request then return nil end
  local epoch = math.max(request.epoch + 1, now)
  local other_store = request.run_id ~= args[4]
  if other_store then request.tries = 0 end
  if other_store or now < request.alone_until_ms then
    server.call('HSET', request.r, 'log_id', string.format('%x', epoch),
      'forks', fork(request), 'run_id', args[4], 'alone_until_ms', int(request.alone_until_ms))
  end
  own(request, args[2], epoch, now, lease_ms, hears or '')
  set_lease(request, now + lease_ms)
  server.call('HSET', request.r, 'progress_ms', int(now),
    'tries', request.status == 'paused' and '0' or int(request.tries + 1))
  server.call('ZADD', live, int(now), request.id)
  return server.call('HMGET', request.r, unpack(args, 5, last))
end
