-- Limits on one client (P17.13). Three things are counted for each client: its requests that are
-- not known to have ended (s), its requests of the last minute (m), and the tokens that those of
-- the last minute may use, or have used once they ended (k). All functions here take the keys s, t,
-- m, k:
--   s  sorted set: request ids by the time of admission
--   t  string: when the client's next request would stand in the queue, in ms
--   m  sorted set: request ids of the last minute by the time of admission
--   k  hash: tokens by request id, and their total as 'sum'

-- Counts `tokens` for a request; nil removes the request from the count.
local function count(k, id, tokens)
  local before = tonumber(server.call('HGET', k, id) or '0')
  if tokens then
    server.call('HSET', k, id, int(tokens))
  else
    server.call('HDEL', k, id)
  end
  if (tokens or 0) ~= before then server.call('HINCRBY', k, 'sum', int((tokens or 0) - before)) end
end

-- Stops counting requests that were admitted more than a minute ago.
local function end_minute(m, k, now)
  local last = int(now - MINUTE_MS)
  local over = server.call('ZRANGEBYSCORE', m, '-inf', last)
  if #over == 0 then return end
  server.call('ZREMRANGEBYSCORE', m, '-inf', last)
  if server.call('EXISTS', k) == 0 then return end
  for _, id in ipairs(over) do count(k, id, nil) end
end

-- Requests not known to have ended with their ages, LISTED at most: id, ms, … If there are more,
-- the clock picks which, so that in time each is picked.
local function some_open(s, now)
  local first = now % math.max(1, server.call('ZCARD', s) - LISTED + 1)
  local open = server.call('ZRANGE', s, int(first), int(first + LISTED - 1), 'WITHSCORES')
  for i = 2, #open, 2 do open[i] = now - tonumber(open[i]) end
  return open
end

-- The ms until `over` tokens of the last minute no longer count. It looks at the LOOKED_AT oldest
-- requests.
local function wait_for_tokens(m, k, over, now)
  local minute, room = server.call('ZRANGE', m, 0, LOOKED_AT - 1, 'WITHSCORES'), now
  for i = 1, #minute, 2 do
    over = over - tonumber(server.call('HGET', k, minute[i]) or '0')
    room = tonumber(minute[i + 1])
    if over <= 0 then break end
  end
  return room + MINUTE_MS - now
end

-- The limit that one more request with `wanted` tokens would exceed, and for how many ms (0 when
-- unknown); nil when it exceeds none.
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

-- The reply for an admitted request. A client's requests stand quantum_ms apart in the queue, so
-- that other clients' requests come between them (P17.4). t moves back to the present as time
-- passes, and is at most MAX_AHEAD_MS ahead. `ahead`, how many of the client's own requests stand
-- ahead, decides when the queue is nearly full (P17.3).
local function placed(place, quantum, now)
  return {1, place, quantum > 0 and math.floor((place - now) / quantum) or 0}
end

-- Decide whether a client may have one more request, and where in the queue it would stand (P17).
-- ARGV  2 request_id  3 streams, 0 for no limit  4 quantum_ms  5 requests a minute and 6 tokens a
--       minute, 0 for no limit  7 tokens that this request may use
-- reply {1, place_ms, ahead}, or {0, limit, wait_ms, then per request: request_id, ms since it was
--       admitted}: some of the requests that count
local function lore_admit(keys, args)
  local now, id, quantum = clock(args[1]), args[2], tonumber(args[4])
  local streams = tonumber(args[3])
  local requests, tokens, wanted = tonumber(args[5]), tonumber(args[6]), tonumber(args[7])
  local s, t, m, k = unpack(keys)
  local next_ms = tonumber(server.call('GET', t) or '0')
  server.call('ZREMRANGEBYSCORE', s, '-inf', int(now - (streams > 0 and COUNTED_MS or MINUTE_MS)))
  end_minute(m, k, now)
  if server.call('ZSCORE', s, id) or server.call('ZSCORE', m, id) then
    return placed(math.max(now, next_ms - quantum), quantum, now)
  end
  local limit, wait = refusal(keys, streams, requests, tokens, wanted, now)
  if limit then
    local open = limit == 'requests' and {} or some_open(s, now)
    return {0, limit, wait, unpack(open)}
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

-- Record that these requests of the client have ended.
-- ARGV  2… per request its id, and the tokens it used, '' when unknown
local function lore_settle(keys, args)
  local s, _, _, k = unpack(keys)
  for i = 2, #args, 2 do
    server.call('ZREM', s, args[i])
    if args[i + 1] ~= '' and server.call('HEXISTS', k, args[i]) == 1 then
      count(k, args[i], tonumber(args[i + 1]))
    end
  end
end

-- Undo the admission of a request that was then not created.
-- ARGV  2 request_id
local function lore_leave(keys, args)
  local s, _, m, k = unpack(keys)
  server.call('ZREM', s, args[2])
  server.call('ZREM', m, args[2])
  count(k, args[2], nil)
end
