#!lua name=lore
--[[
Lore's state changes: each function is an atomic call on the keys of one partition. The exceptions
are lore_append_all and lore_waiting: on a server outside a cluster, one call may span partitions.

Theory of operation. A request is a hash (r) with its log, a stream (c) whose entry ids are
"<seq>-0". Four sorted sets of the partition say where the request is:
  q      waiting, by place_ms
  lease  owned, by the end of the lease
  live   queued or owned, by last progress; text counts from the next renewal on
  ended  ended or reaped, by when their memory may be reused for others
Every function reads, judges, and only then writes, because functions do not roll back. What it
publishes goes out in the same atomic step. Every function may be repeated, also after it was
aborted: a cluster's server aborts a function that asks for a missing key while the slot moves to
another server. `twin` is the same in Python, and tests/store compares the two. PROTOCOL.md
explains the protocol's rules (P…); the lifecycle table (P13) is in protocol/lifecycle.py.

Common to all functions:
  KEYS     names in one slot (lore_append_all says its own). The functions on one request take
           the five keys r, c, q, lease, live. Where the function picks the request itself, the
           request's own keys are built from the partition's prefix, in the same slot.
  ARGV[1]  now in ms; 0 means the server's clock (tests pass the time in).
  reply    a position: {outcome, status, next_seq, acked_seq, acked_tokens}, status "" when
           the request is unknown. Functions with another reply document it.

Published (payloads are split at blanks, without a parser):
  n channel   c <seq> <tokens> <at_ms> <log_id>\n<text>  |  a <acked_seq> <acked_tokens>  |
              s <status> <reason>
  b channel   <outcome> <status> <next_seq> <acked_seq> <acked_tokens> <epoch>: the epoch is that
              of the lease in question; owners of releases before VERSION 6 get no epoch
  wake channel  the partition's number, two digits
  o channel   nothing is published: a generator's subscription to its own channel shows that it
              lives (P15.10)

Versions. In a rolling upgrade, two releases run side by side on the newer one's library. A client
loads its own library if the server has none, an older VERSION, or another text with the same
VERSION (only a developer sees the last: VERSION is raised with every released change). It never
replaces a newer one. So this library serves callers of OLDEST_CALLER and later: arguments are only
ever added at the end, and an absent one means the old behaviour. A client that cannot load its
library (the memory is full, or its user lacks the right) works with the older one (`functions.py`).
]]

local VERSION = 9
local OLDEST_CALLER = 5

local OWNED = {generating = true, paused = true}
local LIVE = {queued = true, generating = true, paused = true}
local ENDED = {done = true, failed = true, cancelled = true}
local MAX_AHEAD_MS = 3600000
local COUNTED_MS = 86400000
local MINUTE_MS = 60000
local LISTED = 64
local LOOKED_AT = 1000
local PARTITIONS = 64
local DELETED_MS = 3600000

-- Numbers as whole decimals: Lua would write large ones as 1.7e+12.
local function int(number)
  return string.format('%d', number)
end

local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local time = server.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The request as a table with its keys; nil if it does not exist.
local function load(r, c, q, lease, live)
  local v = server.call('HMGET', r, 'status', 'owner', 'epoch', 'log_id', 'run_id', 'next_seq',
    'generated_tokens', 'acked_seq', 'acked_tokens', 'reopen_tokens', 'created_ms', 'started_ms',
    'progress_ms', 'lease_until_ms', 'place_ms', 'tries', 'alone_until_ms', 'forks',
    'hears_epochs', 'unread')
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
    hears_epochs = v[19] == '1' or v[19] == '2', has_channel = v[19] == '2',
    unread = v[20] == '1',
  }
end

-- A number of the request that `look` does not read, because it is rarely needed.
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

-- Tells the owner about its lease. The epoch tells it from earlier leases of the same owner.
local function publish_position(outcome, request)
  local news = string.format('%s %s %d %d %d', unpack(position(outcome, request)))
  if request.hears_epochs then news = news .. ' ' .. int(request.epoch) end
  server.call('SPUBLISH', request.tag .. 'b:' .. request.id, news)
end

local function wake(tag)
  server.call('SPUBLISH', tag .. 'wake', string.match(tag, '{p(%d+)}'))
end

-- Whether this owner may write (P2). A newer epoch belongs to a claim that the store has forgotten.
-- That claim's lease ends lease_ms after its epoch, because an epoch is the time of its claim
-- (P2.7). After a loss of data, a lease that the store remembers counts until it ends: from then on
-- the store may have forgotten that another owner followed (P2.11).
local function may_write(request, owner, epoch, log_id, run_id, now, lease_ms)
  if log_id ~= request.log_id then return false end
  if epoch > request.epoch then return LIVE[request.status] and now < epoch + lease_ms end
  if epoch < request.epoch or owner ~= request.owner or not OWNED[request.status] then
    return false
  end
  return request.run_id == run_id or now < number_of(request, 'lease_until_ms')
end

-- The key that exists while a deleted request must stay unknown.
local function deleted_key(r)
  return (string.gsub(r, 'r:', 'x:', 1))
end

-- Whether the readers left before there was any text: the prompt waits for a reader (P7).
local function is_unread(request)
  return request.unread and request.next_seq == 1
end

-- Makes `owner` the owner: by a claim, or by a claim that the store has forgotten (P2, P15).
-- `hears_epochs`: '1' if the owner hears epochs on channel b, '2' if it also has a channel of its
-- own by which it can be missed. It is unknown for forgotten claims, where most owners hear epochs.
local function own(request, owner, epoch, now, lease_ms, hears_epochs)
  local started_ms = number_of(request, 'started_ms')
  local started = started_ms > 0
  local status = is_unread(request) and 'paused' or 'generating'
  request.status, request.owner, request.epoch = status, owner, epoch
  request.reopen_tokens = 0
  server.call('HSET', request.r, 'status', status, 'owner', owner, 'epoch', int(epoch),
    'reopen_tokens', '0', 'started_ms', int(started and started_ms or now),
    'lease_ms', int(lease_ms), 'hears_epochs', hears_epochs or '1', 'passed_ms', '0')
  server.call('ZREM', request.q, request.id)
  publish_state(request, started and 'failed_over' or 'claimed')
end

-- The `forks` of a new log that branches off where the present one ends (protocol/fork.py).
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

-- Shortens leases that end later than their length from now (P15.7). Another clock gave them: that
-- of the server which had the partition before, or this server's before it was set back. `usual_ms`
-- is the length of leases whose requests do not say it, those of before VERSION 6.
local function shorten_leases(lease, tag, now, usual_ms)
  local far = server.call('ZRANGEBYSCORE', lease, '(' .. int(now + usual_ms), '+inf', 'WITHSCORES')
  for i = 1, #far, 2 do
    local key = tag .. 'r:' .. far[i]
    local lease_ms = tonumber(server.call('HGET', key, 'lease_ms') or usual_ms)
    if tonumber(far[i + 1]) > now + lease_ms then
      set_lease({r = key, lease = lease, id = far[i]}, now + lease_ms)
    end
  end
end

-- Takes the request away from its owner, into `status`.
local function disown(request, status)
  request.status = status
  server.call('HSET', request.r, 'status', status, 'owner', '', 'lease_until_ms', '0',
    'reopen_tokens', '0')
  server.call('ZREM', request.lease, request.id)
  server.call('ZREM', request.q, request.id)
  if not LIVE[status] then server.call('ZREM', request.live, request.id) end
end

local function is_read(request)
  return request.acked_seq >= request.next_seq - 1
end

-- Sets when a request expires that has ended (at `ended_ms`) or was reaped. Its memory may be
-- reused from its end on if it was read, else from its expiry on (P17). Also removes a few expired
-- requests from the index.
local function expire(request, at_ms, ended_ms)
  server.call('PEXPIREAT', request.r, int(at_ms))
  server.call('PEXPIREAT', request.c, int(at_ms))
  local index = request.tag .. 'ended'
  for _, id in ipairs(server.call('ZRANGE', index, '0', '3')) do
    if server.call('EXISTS', request.tag .. 'r:' .. id) == 0 then server.call('ZREM', index, id) end
  end
  server.call('ZADD', index, int(ended_ms and is_read(request) and ended_ms or at_ms), request.id)
end

-- Cancels (at `ended_ms`) or reaps. The epoch grows, so that the previous owner is fenced.
local function take_away(request, status, reason, expires_ms, ended_ms)
  local owned = OWNED[request.status]
  disown(request, status)
  server.call('HINCRBY', request.r, 'epoch', 1)
  expire(request, expires_ms, ended_ms)
  if owned then publish_position('fenced', request) end
  publish_state(request, reason)
  return position('ok', request)
end
