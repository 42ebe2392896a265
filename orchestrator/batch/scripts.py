"""What happens to batches in Redis, as Lua: each is one step, by Redis' own clock.

All keys begin with coe:{batch}: and so lie in one slot of a cluster; scripts are given that and make them of it.

    live              sorted set of the jobs that are not at their end -> when they were made, in ms
    all, of:<owner>   the same of every job, and of every job of a key
    job:<id>          hash, see orchestrator.batch.jobs
    next:<id>         hash, group -> its first block that nobody has had
    back:<id>:<group> list of blocks that were given back, or whose lease has ended
    wait:<id>:<group> sorted set of blocks that were given back -> when each may be taken again, in ms
    lost:<id>         hash, block -> leases in a row that ended without anything done
    part:<id>         hash, <block>:<token> -> bytes of that log that count, and what COMMIT counts of them
    leases            sorted set of tokens -> when each ends, in ms
    lease             hash, token -> what it is of, as JSON
    rate              hash, expert -> steps a second

A lease is of one piece of work: planning a job, one block, or finishing a job. Its token is made by the runner and used
once. A lease that has ended is taken back by whoever looks for work next, and from then on its token does nothing: a
runner that was only slow finds its results refused. The more leases in a row ended so, the longer the next one is: on a
machine that is slow, one will be long enough.
"""

PREFIX = "coe:{batch}:"

HEAD = """
local P = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function job(id) return P .. 'job:' .. id end

local function drop(token)
  redis.call('ZREM', P .. 'leases', token)
  redis.call('HDEL', P .. 'lease', token)
end

-- The lease of a token, while it has not ended.
local function held(token)
  local ends = redis.call('ZSCORE', P .. 'leases', token)
  if not ends or tonumber(ends) <= now then return nil end
  return cjson.decode(redis.call('HGET', P .. 'lease', token))
end

local function give_back(token, lease, is_lost, delay)
  drop(token)
  if not redis.call('ZSCORE', P .. 'live', lease.job) then return end
  if lease.kind == 'block' then
    local own = lease.job .. ':' .. lease.group
    if delay > 0 then
      redis.call('ZADD', P .. 'wait:' .. own, now + delay, lease.block)
    else
      redis.call('RPUSH', P .. 'back:' .. own, lease.block)
    end
    if is_lost then redis.call('HINCRBY', P .. 'lost:' .. lease.job, lease.block, 1) end
  elseif not is_lost then
    redis.call('HINCRBY', job(lease.job), 'tries', -1)
  end
end

local function reap()
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now)) do
    give_back(token, cjson.decode(redis.call('HGET', P .. 'lease', token)), true, 0)
  end
end

-- lost: leases of the same work before it that ended without a sign.
local function take(token, ms, lease, lost)
  lease.ms = ms * math.min(8, 2 ^ lost)
  ms = lease.ms
  redis.call('ZADD', P .. 'leases', now + ms, token)
  redis.call('HSET', P .. 'lease', token, cjson.encode(lease))
end

local function status(id) return redis.call('HGET', job(id), 'status') end

-- A job whose time is over is finished with what there is.
local function expire(id)
  local ends = redis.call('HGET', job(id), 'expires_ms')
  local is = status(id)
  if tonumber(ends) <= now and (is == 'validating' or is == 'in_progress') then
    redis.call('HSET', job(id), 'status', 'finalizing', 'end', 'expired', 'finalizing_ms', now)
  end
end
"""

CREATE = (
    HEAD
    + """
-- ARGV: id, owner, most live jobs of the owner, then fields and values -> 1, 0 if there is one, -1 for too many
if redis.call('EXISTS', job(ARGV[1])) == 1 then return 0 end
local most, own = tonumber(ARGV[3]), 0
if most >= 0 then
  for _, id in ipairs(redis.call('ZRANGE', P .. 'live', 0, -1)) do
    if redis.call('HGET', job(id), 'owner') == ARGV[2] then own = own + 1 end
  end
  if own >= most then return -1 end
end
local fields = {}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', job(ARGV[1]), unpack(fields))
local at = redis.call('HGET', job(ARGV[1]), 'created_ms')
local is = status(ARGV[1])
if is == 'validating' or is == 'cancelling' then redis.call('ZADD', P .. 'live', at, ARGV[1]) end
redis.call('ZADD', P .. 'all', at, ARGV[1])
redis.call('ZADD', P .. 'of:' .. ARGV[2], at, ARGV[1])
return 1
"""
)

READ = "return redis.call('HGETALL', KEYS[1] .. 'job:' .. ARGV[1])"

LIST = """
-- ARGV: 'all' or 'of:<owner>', most, the id after which to begin or '' -> ids, the newest first
local P, from = KEYS[1], 0
if ARGV[3] ~= '' then
  local rank = redis.call('ZREVRANK', P .. ARGV[1], ARGV[3])
  if not rank then return {} end
  from = rank + 1
end
return redis.call('ZREVRANGE', P .. ARGV[1], from, from + tonumber(ARGV[2]) - 1)
"""

LIVE = "return redis.call('ZRANGE', KEYS[1] .. 'live', 0, -1)"

CANCEL = (
    HEAD
    + """
-- ARGV: id -> the status that it has now
local is = status(ARGV[1])
if is == 'validating' or is == 'in_progress' then
  redis.call('HSET', job(ARGV[1]), 'status', 'cancelling', 'end', 'cancelled', 'cancelling_ms', now)
  return 'cancelling'
end
return is
"""
)

TAKE_JOB = (
    HEAD
    + """
-- ARGV: token, lease in ms -> {id, 'plan' or 'finish', how often that was begun, how often it met a fault}, or nothing.
-- Asked again with a token that has a lease, it tells that one: its answer had not come.
reap()
local own = held(ARGV[1])
if own then return {own.job, own.kind, unpack(redis.call('HMGET', job(own.job), 'tries', 'faults'))} end
local busy = {}
for _, raw in ipairs(redis.call('HVALS', P .. 'lease')) do busy[cjson.decode(raw).job] = true end
for _, id in ipairs(redis.call('ZRANGE', P .. 'live', 0, -1)) do
  expire(id)
  local is, kind = status(id), nil
  if is == 'validating' then kind = 'plan' end
  if is == 'finalizing' or is == 'cancelling' then kind = 'finish' end
  local later = tonumber(redis.call('HGET', job(id), 'later_ms') or '0')
  if kind and not busy[id] and later <= now then
    local tries = redis.call('HINCRBY', job(id), 'tries', 1)
    take(ARGV[1], ARGV[2], {job = id, kind = kind}, tries - 1)
    return {id, kind, tries, redis.call('HGET', job(id), 'faults') or '0'}
  end
end
return {}
"""
)

TAKE_BLOCK = (
    HEAD
    + """
-- ARGV: token, lease in ms, family, most experts of it at a time, experts that are loaded ...
-- -> {id, group from 1, block, expert, leases in a row that it cost}, or nothing; asked again as TAKE_JOB
reap()
local own = held(ARGV[1])
if own then
  return {own.job, own.group, own.block, own.expert, redis.call('HGET', P .. 'lost:' .. own.job, own.block) or '0'}
end
local loaded, busy, experts = {}, {}, 0
for i = 5, #ARGV do loaded[ARGV[i]] = true end
for _, raw in ipairs(redis.call('HVALS', P .. 'lease')) do
  local lease = cjson.decode(raw)
  if lease.kind == 'block' and lease.family == ARGV[3] and not busy[lease.expert] then
    busy[lease.expert] = true
    experts = experts + 1
  end
end
local full = experts >= tonumber(ARGV[4])
local best, found = 3, nil
for _, id in ipairs(redis.call('ZRANGE', P .. 'live', 0, -1)) do
  expire(id)
  local later = tonumber(redis.call('HGET', job(id), 'later_ms') or '0')
  if status(id) == 'in_progress' and later <= now then
    local drafts = tonumber(redis.call('HGET', job(id), 'left1'))
    for g, group in ipairs(cjson.decode(redis.call('HGET', job(id), 'groups'))) do
      local stage, family, expert, first, blocks = unpack(group)
      if family == ARGV[3] and (stage == 1 or drafts == 0) then
        local rank = 1
        if busy[expert] then rank = full and 0 or 2
        elseif full then rank = 3
        elseif loaded[expert] then rank = 0 end
        if rank < best then
          local fresh = tonumber(redis.call('HGET', P .. 'next:' .. id, g) or first)
          local back, wait = P .. 'back:' .. id .. ':' .. g, P .. 'wait:' .. id .. ':' .. g
          for _, ready in ipairs(redis.call('ZRANGEBYSCORE', wait, '-inf', now)) do
            redis.call('RPUSH', back, ready)
            redis.call('ZREM', wait, ready)
          end
          if fresh < first + blocks or redis.call('EXISTS', back) == 1 then
            best, found = rank, {id, g, expert, fresh, back}
          end
        end
      end
    end
  end
end
if not found then return {} end
local id, g, expert, fresh, back = unpack(found)
local block = redis.call('LPOP', back)
if not block then
  block = fresh
  redis.call('HSET', P .. 'next:' .. id, g, fresh + 1)
end
local lease = {job = id, kind = 'block', group = g, block = tonumber(block), family = ARGV[3], expert = expert}
local lost = redis.call('HGET', P .. 'lost:' .. id, block) or '0'
take(ARGV[1], ARGV[2], lease, tonumber(lost))
return {id, g, block, expert, lost}
"""
)

RENEW = (
    HEAD
    + """
-- ARGV: tokens ... -> for each the status of its job, or '' where it has ended
local answer = {}
for i = 1, #ARGV do
  local lease = held(ARGV[i])
  if lease then
    redis.call('ZADD', P .. 'leases', now + lease.ms, ARGV[i])
    answer[#answer + 1] = status(lease.job) or ''
  else
    answer[#answer + 1] = ''
  end
end
return answer
"""
)

GIVE_BACK = (
    HEAD
    + """
-- ARGV: token, 1 if it is a loss, ms for which the block is left alone, the same of the job, 1 if a fault was met,
-- problems of the job as JSON or ''
local lease = held(ARGV[1])
if not lease then return 0 end
give_back(ARGV[1], lease, ARGV[2] == '1', tonumber(ARGV[3]))
if ARGV[5] == '1' then redis.call('HINCRBY', job(lease.job), 'faults', 1) end
if ARGV[6] ~= '' then redis.call('HSET', job(lease.job), 'problems', ARGV[6]) end
if tonumber(ARGV[4]) > 0 then redis.call('HSET', job(lease.job), 'later_ms', now + ARGV[4]) end
return 1
"""
)

TELL = (
    HEAD
    + """
-- ARGV: token, problems of its job as JSON
local lease = held(ARGV[1])
if lease then redis.call('HSET', job(lease.job), 'problems', ARGV[2]) end
"""
)

PARTS = """
-- ARGV: id, <block>:<token> ... -> what is known of each log, or false
local names = {}
for i = 2, #ARGV do names[#names + 1] = ARGV[i] end
return redis.call('HMGET', KEYS[1] .. 'part:' .. ARGV[1], unpack(names))
"""

ALL_PARTS = "return redis.call('HGETALL', KEYS[1] .. 'part:' .. ARGV[1])"

COMMIT = (
    HEAD
    + """
-- ARGV: token, 1 if the block is done, steps a second or '', bytes of its log, then what is in them: steps, lines
-- completed, failed, tokens of input, cached, of output -> the job's status, or '' if the lease has ended
local lease = held(ARGV[1])
if not lease then return '' end
local id, block = lease.job, lease.block
local name = block .. ':' .. ARGV[1]
local before = {}
local known = redis.call('HGET', P .. 'part:' .. id, name)
if known then
  for number in string.gmatch(known, '%d+') do before[#before + 1] = tonumber(number) end
end
redis.call('HSET', P .. 'part:' .. id, name, table.concat(ARGV, ' ', 4))
-- What is known is set, and what it changes is added: a commit that Redis forgot is made up for by the next one.
local counts = {'done:' .. lease.group, 'completed', 'failed', 'input_tokens', 'cached_tokens', 'output_tokens'}
for i, count in ipairs(counts) do
  redis.call('HINCRBY', job(id), count, ARGV[4 + i] - (before[1 + i] or 0))
end
if ARGV[5] - (before[2] or 0) > 0 then
  redis.call('HDEL', P .. 'lost:' .. id, block)
  redis.call('HDEL', job(id), 'tries', 'faults', 'problems')
end
if ARGV[2] == '1' then
  drop(ARGV[1])
  if ARGV[3] ~= '' then
    local old = redis.call('HGET', P .. 'rate', lease.expert)
    local rate = tonumber(ARGV[3])
    if old then rate = 0.8 * tonumber(old) + 0.2 * rate end
    redis.call('HSET', P .. 'rate', lease.expert, tostring(rate))
  end
  local stage = cjson.decode(redis.call('HGET', job(id), 'groups'))[lease.group][1]
  redis.call('HINCRBY', job(id), 'left' .. stage, -1)
  local left = redis.call('HMGET', job(id), 'left1', 'left2')
  if left[1] == '0' and left[2] == '0' and status(id) == 'in_progress' then
    redis.call('HSET', job(id), 'status', 'finalizing', 'end', 'completed', 'finalizing_ms', now)
  end
else
  redis.call('ZADD', P .. 'leases', now + lease.ms, ARGV[1])
end
return status(id)
"""
)

PLANNED = (
    HEAD
    + """
-- ARGV: token, end or '' where there are blocks to work on, then fields and values -> the job's status, or ''
local lease = held(ARGV[1])
if not lease then return '' end
drop(ARGV[1])
local fields = {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', job(lease.job), unpack(fields))
redis.call('HDEL', job(lease.job), 'tries', 'faults', 'problems')
if status(lease.job) == 'validating' then
  redis.call('HSET', job(lease.job), 'status', 'in_progress', 'in_progress_ms', now)
  if ARGV[2] ~= '' then
    redis.call('HSET', job(lease.job), 'status', 'finalizing', 'end', ARGV[2], 'finalizing_ms', now)
  end
end
return status(lease.job)
"""
)

FINISHED = (
    HEAD
    + """
-- ARGV: id, token or '' for an end that is on disk, then fields and values; status is one of them -> 1, or 0
local id = ARGV[1]
if ARGV[2] ~= '' and not held(ARGV[2]) then return 0 end
if ARGV[2] ~= '' then drop(ARGV[2]) end
local fields = {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', job(id), unpack(fields))
redis.call('ZREM', P .. 'live', id)
for g = 1, #cjson.decode(redis.call('HGET', job(id), 'groups') or '[]') do
  redis.call('DEL', P .. 'back:' .. id .. ':' .. g, P .. 'wait:' .. id .. ':' .. g)
end
redis.call('DEL', P .. 'next:' .. id, P .. 'lost:' .. id, P .. 'part:' .. id, P .. 'down:' .. id)
return 1
"""
)

STATES = """
-- -> statuses of the jobs that are not at their end, one each
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1] .. 'live', 0, -1)) do
  found[#found + 1] = redis.call('HGET', KEYS[1] .. 'job:' .. id, 'status') or ''
end
return found
"""

RATES = "return redis.call('HGETALL', KEYS[1] .. 'rate')"
