-- The request, if it belongs to this subject. Without a subject, anyone's.
local function load_of(keys, subject)
  if subject and server.call('HGET', keys[1], 'subject') ~= subject then return nil end
  return load(unpack(keys))
end

-- The reader has everything up to a seq (P9); opens a closed window if that frees enough (P6).
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
  if LIVE[request.status] then
    server.call('ZADD', request.live, int(now), request.id)
  elseif ENDED[request.status] and is_read(request) then
    server.call('ZADD', request.tag .. 'ended', int(number_of(request, 'finished_ms')),
      request.id)
  end
  publish(request, 'a ' .. args[2] .. ' ' .. entry[2][6])
  if request.status == 'paused' and request.acked_tokens >= request.reopen_tokens then
    request.status = 'generating'
    server.call('HSET', request.r, 'status', 'generating', 'reopen_tokens', '0')
    publish_position('ok', request)
    publish_state(request, 'resumed')
  end
  return position('ok', request)
end

-- An edge reports that its last reader has left, or that it has a reader. A request whose readers
-- left before the first text is unread: it is paused once it is owned, as by a closed window (P7).
-- An edge with a reader that sees an unread request reports again, so a reader has the last word
-- whichever call overtakes which (P7.5).
-- ARGV  2 'left' or 'back'
local function lore_readers(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  local unread = args[2] == 'left'
  if not LIVE[request.status] or request.next_seq > 1 or request.unread == unread
    or server.call('HGET', request.r, 'ack') == 'none'
  then
    return position('ok', request)
  end
  local now, status = int(clock(args[1])), request.status
  if OWNED[status] then status = unread and 'paused' or 'generating' end
  server.call('HSET', request.r, 'unread', unread and '1' or '', 'progress_ms', now, 'status', status,
    'tries', unread and '0' or int(request.tries))
  server.call('ZADD', request.live, now, request.id)
  if status ~= request.status then
    request.status = status
    publish_position('ok', request)
    publish_state(request, unread and 'paused' or 'resumed')
  end
  return position('ok', request)
end

-- The owner reports the number of tokens in the prompt, and its model. It does so before the end,
-- so that both are known of cancelled and reaped requests too. Readers are told when an answer goes
-- on with another model (P15.21).
-- ARGV  2 owner  3 epoch  4 prompt_tokens  5 model, or absent
local function lore_prompt(keys, args)
  local request = load(unpack(keys))
  if not request then return unknown() end
  if request.owner ~= args[2] or request.epoch ~= tonumber(args[3]) then
    return position('fenced', request)
  end
  local before = server.call('HGET', request.r, 'model') or ''
  local model = args[5] or before
  server.call('HSET', request.r, 'prompt_tokens', args[4], 'model', model)
  if request.next_seq > 1 and before ~= '' and model ~= before then
    publish_state(request, 'other_model')
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

  if epoch > request.epoch then own(request, args[2], epoch, now, 0) end
  server.call('HSET', request.r, 'finish_reason', args[6], 'error', args[7],
    'prompt_tokens', args[8], 'finished_ms', int(now))
  expire(request, now + tonumber(args[9]), now)
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
  return take_away(request, 'cancelled', 'ended', now + tonumber(args[2]), now)
end

-- Delete a request; a live one is cancelled first. For DELETED_MS its id stays taken: no delayed
-- POST opens it again, and no owner gives it back after a loss of data (P3.5).
-- ARGV  2 subject, or absent
local function lore_forget(keys, args)
  local request = load_of(keys, args[2])
  if not request then return unknown() end
  local now = clock(args[1])
  -- This comes first: it aborts the function while the slot moves to another server of a cluster.
  server.call('SET', deleted_key(request.r), '', 'PXAT', int(now + DELETED_MS))
  if LIVE[request.status] or request.status == 'reaped' then
    take_away(request, 'cancelled', 'ended', now, now)
  else
    publish_state(request, 'ended')
  end
  server.call('DEL', request.r, request.c)
  server.call('ZREM', request.tag .. 'ended', request.id)
  return position('ok', request)
end

local KEPT = {
  'request_id', 'subject', 'fingerprint', 'ack', 'status', 'epoch', 'log_id', 'forks', 'next_seq',
  'generated_tokens', 'acked_seq', 'acked_tokens', 'window', 'prompt_tokens', 'finish_reason',
  'error', 'created_ms', 'started_ms', 'progress_ms', 'finished_ms', 'trace', 'model',
}

-- Removes the text and the question of an answer that was read (P17.9). The rest remains until it
-- would have expired, and tells readers so. The hash is deleted and written anew, because a hash
-- that was once large keeps its memory.
local function give_up(request, now)
  local values, hash = server.call('HMGET', request.r, unpack(KEPT)), {'given_up_ms', int(now)}
  local expires_ms = server.call('PEXPIRETIME', request.r)
  for i, name in ipairs(KEPT) do
    hash[#hash + 1], hash[#hash + 2] = name, values[i] or ''
  end
  server.call('DEL', request.r, request.c)
  server.call('HSET', request.r, unpack(hash))
  if expires_ms > 0 then server.call('PEXPIREAT', request.r, int(expires_ms)) end
  publish_state(request, 'ended')
end

-- Make room on a server whose memory is full (P17): gives up ended answers whose readers have
-- acknowledged everything, the oldest first.
-- KEYS  ended
-- ARGV  2 the latest end, in ms  3 how many at most
-- reply how many were given up, and how many entries were removed from the index
local function lore_give_up(keys, args)
  local now, tag, given = clock(args[1]), string.sub(keys[1], 1, -6), 0
  local ids = server.call('ZRANGEBYSCORE', keys[1], '-inf', args[2], 'LIMIT', '0', args[3])
  for _, id in ipairs(ids) do
    local request = load(tag .. 'r:' .. id, tag .. 'c:' .. id, tag .. 'q', tag .. 'lease',
      tag .. 'live')
    if request and ENDED[request.status] and is_read(request) then
      give_up(request, now)
      given = given + 1
    end
    server.call('ZREM', keys[1], id)
  end
  return {given, #ids}
end

-- Reap: take a request that made no progress away from its owner (P16).
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

-- Puts a request back into the queue, at its original place.
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
  server.call('ZREM', request.tag .. 'ended', request.id)
  server.call('HSET', request.r, 'progress_ms', now, 'unread', '')
  server.call('ZADD', request.live, now, request.id)
  return enqueue(request, 'revived')
end

-- Hand a request back to the queue. Its claim counts as a try only if the engine or the owner
-- failed ('failed', 'silent'). A silent owner may live, and believe itself alone until its lease
-- ends (P4.8).
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

-- Renew the leases of one owner in one partition (P15). Text that was appended since the last
-- renewal now counts as progress in the order of `live`.
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
      if epoch > request.epoch then own(request, args[2], epoch, now, args[3]) end
      set_lease(request, now + tonumber(args[3]))
      server.call('ZADD', request.live, int(request.progress_ms), request.id)
      positions[#positions + 1] = position('ok', request)
    end
  end
  return positions
end

-- The queue place in ms of the request that a claim would take from one partition, or nil.
local function waiting_in(q, lease, now, args)
  local tag = string.sub(q, 1, -2)
  if (args[2] or '') ~= '' then shorten_leases(lease, tag, now, tonumber(args[2])) end
  local lapsed = server.call('ZRANGEBYSCORE', lease, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, 1)
  if lapsed[1] then
    local kept = server.call('HMGET', tag .. 'r:' .. lapsed[1], 'place_ms', 'created_ms')
    return tonumber(kept[1] or kept[2] or lapsed[2])
  end
  local left = first_left(q, lease, tag .. 'live', now, false, nil, silent_of(args[4], args[3]))
  if left then return left.place_ms end
  local waiting = server.call('ZRANGE', q, 0, 0, 'WITHSCORES')
  return waiting[2] and tonumber(waiting[2])
end

-- The queue place of the request that a claim would take.
-- KEYS  q, lease; since VERSION 9, on a server outside a cluster, those of several partitions
-- ARGV  2 the usual length of leases in ms, '' or absent  3 server run id  4 silent owners as text
--       (`silent_of`), or absent
-- reply place_ms, or nil when nothing can be claimed; for several partitions, one for each
local function lore_waiting(keys, args)
  local now = clock(args[1])
  if #keys == 2 then return waiting_in(keys[1], keys[2], now, args) end
  local places = {}
  for i = 1, #keys, 2 do
    places[#places + 1] = waiting_in(keys[i], keys[i + 1], now, args) or false
  end
  return places
end

-- Generators learn each other's names: records the caller's and returns all.
-- KEYS  met
-- ARGV  2 owner  3 keep_ms
-- reply the names of the generators that called within the last keep_ms
local function lore_meet(keys, args)
  local now = clock(args[1])
  server.call('ZADD', keys[1], int(now), args[2])
  server.call('ZREMRANGEBYSCORE', keys[1], '-inf', int(now - tonumber(args[3])))
  server.call('PEXPIREAT', keys[1], int(now + tonumber(args[3])))
  return server.call('ZRANGE', keys[1], 0, -1)
end
