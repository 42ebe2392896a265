"""The decisions on a key's limits, as Lua: Redis runs each as one step, by its own clock.

What was used within a window is kept as counters of short slots of it: a sliding window with bounded memory (M. Nikrad,
"An alternative approach to rate limiting", Figma 2017). A window of N slots sees the N before the current one too, so
that no stretch of a window's length ever has more than the limit; what was used is free again at most a slot late. A
token bucket, or GCRA, takes one number instead of N + 1, but lets twice the limit through in its first window: too much
where the limit is money.

    coe:use:{<key>}     hash, a ring for each window: field <window><slot % (N + 1)> -> "<slot>:<amount>"
    coe:lease:{<key>}   sorted set of the key's requests under way -> when each is given up, in ms: a gateway that has
                        crashed renews none of its own
    coe:held:{<key>}    hash, request under way -> "<when it was admitted> <window>,<ms of a slot>,<slots>,<amount> ..."
                        of the tokens and the money that it has reserved, which are free again when it is given up
    coe:ended:{<key>}   sorted set of requests that were given up, in the last day -> when: they may be settled yet

Amounts are whole: requests, tokens, and billionths of a US dollar.
"""

_RING = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function ring(name, slots)
  local fields = {}
  for i = 0, slots do fields[i + 1] = name .. i end
  return redis.call('HMGET', KEYS[1], unpack(fields))
end

local function parsed(value)
  local slot, amount = string.match(value, '^(%d+):(-?%d+)$')
  return tonumber(slot), tonumber(amount)
end

local function put(name, slots, slot, amount)
  redis.call('HSET', KEYS[1], name .. (slot % (slots + 1)), string.format('%.0f:%.0f', slot, amount))
end

-- Sum of a window, and its slots that are not empty, oldest first.
local function seen(name, ms, slots)
  local current, total, used = math.floor(now / ms), 0, {}
  for _, value in ipairs(ring(name, slots)) do
    if value then
      local slot, amount = parsed(value)
      if slot >= current - slots and slot <= current and amount > 0 then
        total = total + amount
        used[#used + 1] = {slot, amount}
      end
    end
  end
  table.sort(used, function(a, b) return a[1] < b[1] end)
  return total, used
end

-- Adds to the current slot; below 0, gives back to the one of the time at which it was taken.
local function change(name, ms, slots, at, amount)
  local slot = math.floor((amount < 0 and at or now) / ms)
  local value, before = redis.call('HGET', KEYS[1], name .. (slot % (slots + 1))), nil
  if value then
    local stored, had = parsed(value)
    if stored == slot then before = had end
  end
  if amount > 0 then
    put(name, slots, slot, (before or 0) + amount)
  elseif amount < 0 and before then
    put(name, slots, slot, math.max(0, before + amount))
  end
end

-- Gives up the requests whose leases have ended: their gateway has crashed, or never learned of their admission.
local function sweep()
  for _, request in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    local held = redis.call('HGET', KEYS[3], request)
    if held then
      local at = tonumber(string.match(held, '^%d+'))
      for name, ms, slots, amount in string.gmatch(held, ' (%a+),(%d+),(%d+),(%d+)') do
        change(name, tonumber(ms), tonumber(slots), at, -tonumber(amount))
      end
      redis.call('HDEL', KEYS[3], request)
      redis.call('ZADD', KEYS[4], now, request)
      redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - 86400000)
      redis.call('PEXPIRE', KEYS[4], 86400000)
    end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
end
"""

ADMIT = (
    _RING
    + """
-- ARGV: request, lease in ms, most at a time or -1, then for each limit: window, ms of a slot, slots, limit, cost or -1
-- for all that is left
-- -> {index of the limit that refuses, 0 for none, -1 for the requests at a time; ms to wait; now; at a time;
--     then for each limit: used before, ms until all of it is free again, what was reserved}
local request, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
sweep()
local known = redis.call('ZSCORE', KEYS[2], request)
local held = redis.call('ZCARD', KEYS[2])
local before = known and redis.call('HGET', KEYS[3], request) or ''
local refused, longest, answer, costs = 0, 0, {}, {}
for i = 4, #ARGV, 5 do
  local ms, slots = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local limit, cost = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local total, used = seen(ARGV[i], ms, slots)
  if cost < 0 then cost = math.max(1, limit - total) end
  if known then cost = tonumber(string.match(before, ' ' .. ARGV[i] .. ',%d+,%d+,(%d+)')) or cost end
  costs[i] = string.format('%.0f', cost)
  local reset = 0
  if #used > 0 then reset = (used[#used][1] + slots + 1) * ms - now end
  answer[#answer + 1] = string.format('%.0f', total)
  answer[#answer + 1] = string.format('%.0f', reset)
  answer[#answer + 1] = costs[i]
  if total + cost > limit then
    local over, wait = total + cost - limit, 0
    for _, one in ipairs(used) do
      over = over - one[2]
      wait = (one[1] + slots + 1) * ms - now
      if over <= 0 then break end
    end
    if wait >= longest then refused, longest = (i - 4) / 5 + 1, wait end
  end
end
if refused == 0 and most >= 0 and held >= most then refused = -1 end
if known then refused = 0 end  -- this very decision, sent again after a broken connection
if refused == 0 and not known then
  local reserved = string.format('%.0f', now)
  for i = 4, #ARGV, 5 do
    local cost = tonumber(costs[i])
    change(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), now, cost)
    -- That it has come stays counted, whatever becomes of it.
    if cost > 0 and string.sub(ARGV[i], 1, 1) ~= 'r' then
      reserved = reserved .. ' ' .. table.concat({ARGV[i], ARGV[i + 1], ARGV[i + 2], costs[i]}, ',')
    end
  end
  if #ARGV > 3 then redis.call('PEXPIRE', KEYS[1], 2 * 86400000) end
  if string.find(reserved, ' ') then
    redis.call('HSET', KEYS[3], request, reserved)
    redis.call('PEXPIRE', KEYS[3], 2 * 86400000)
  end
  redis.call('ZADD', KEYS[2], now + lease, request)
  redis.call('PEXPIRE', KEYS[2], 2 * 86400000)
  held = held + 1
end
return {refused, string.format('%.0f', longest), string.format('%.0f', now), held, unpack(answer)}
"""
)

SETTLE = (
    _RING
    + """
-- ARGV: request, when it was admitted in ms or 0 for one that no limit saw, then for each window: name, ms of a slot,
-- slots, what was reserved, what was used
local at, given_up = tonumber(ARGV[2]), false
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 and at > 0 then
  given_up = redis.call('ZREM', KEYS[4], ARGV[1]) == 1
  if not given_up then return 0 end  -- settled before
end
if at > 0 then redis.call('HDEL', KEYS[3], ARGV[1]) end
for i = 3, #ARGV, 5 do
  local reserved, used = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  if given_up and string.sub(ARGV[i], 1, 1) ~= 'r' then reserved = 0 end  -- it was given back
  change(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), at, used - reserved)
end
redis.call('PEXPIRE', KEYS[1], 2 * 86400000)
return 1
"""
)

RENEW = """
-- ARGV: lease in ms, then requests. Those that were given up stay so.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], 2 * 86400000)
"""

USED = (
    _RING
    + """
-- ARGV: for each window: name, ms of a slot, slots -> {requests under way, used in each window}
sweep()
local answer = {redis.call('ZCARD', KEYS[2])}
for i = 1, #ARGV, 3 do
  answer[#answer + 1] = string.format('%.0f', (seen(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))))
end
return answer
"""
)
