"""The decisions on a key's limits, as Lua: Redis runs each as one step, by its own clock.

What was used within a window is kept as counters of short slots of it: a sliding window with bounded memory (M. Nikrad,
"An alternative approach to rate limiting", Figma 2017). A window of N slots sees the N before the current one too, so
that no stretch of a window's length ever has more than the limit; what was used is free again at most a slot late. A
token bucket, or GCRA, takes one number instead of N + 1, but lets twice the limit through in its first window: too much
where the limit is money.

    coe:use:{<key>}     hash, a ring for each window: field <window><slot % (N + 1)> -> "<slot>:<amount>"
    coe:lease:{<key>}   sorted set of the key's requests under way -> when each is given up, in ms: a gateway that has
                        crashed renews none of its own

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
"""

ADMIT = (
    _RING
    + """
-- ARGV: request, lease in ms, most at a time or -1, then for each limit: window, ms of a slot, slots, limit, cost
-- -> {index of the limit that refuses, 0 for none, -1 for the requests at a time; ms to wait; now; at a time;
--     then for each limit: used before, ms until all of it is free again}
local request, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local known = redis.call('ZSCORE', KEYS[2], request)
local held = redis.call('ZCARD', KEYS[2])
local refused, longest, answer = 0, 0, {}
for i = 4, #ARGV, 5 do
  local ms, slots = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local limit, cost = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local total, used = seen(ARGV[i], ms, slots)
  local reset = 0
  if #used > 0 then reset = (used[#used][1] + slots + 1) * ms - now end
  answer[#answer + 1] = string.format('%.0f', total)
  answer[#answer + 1] = string.format('%.0f', reset)
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
  for i = 4, #ARGV, 5 do
    local ms, slots, cost = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 4])
    local current, amount = math.floor(now / ms), cost
    local value = redis.call('HGET', KEYS[1], ARGV[i] .. (current % (slots + 1)))
    if value then
      local slot, before = parsed(value)
      if slot == current then amount = amount + before end
    end
    put(ARGV[i], slots, current, amount)
  end
  if #ARGV > 3 then redis.call('PEXPIRE', KEYS[1], 2 * 86400000) end
  redis.call('ZADD', KEYS[2], now + lease, request)
  redis.call('PEXPIRE', KEYS[2], 2 * lease)
  held = held + 1
end
return {refused, string.format('%.0f', longest), string.format('%.0f', now), held, unpack(answer)}
"""
)

SETTLE = (
    _RING
    + """
-- ARGV: request, when it was admitted in ms or 0 for one that no limit saw, then for each window: name, ms of a slot,
-- slots, what is to be added or, below 0, given back
local at = tonumber(ARGV[2])
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 and at > 0 then return 0 end  -- settled before, or given up
for i = 3, #ARGV, 4 do
  local ms, slots, change = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local current = math.floor(now / ms)
  local slot = current
  if change < 0 then slot = math.floor(at / ms) end  -- back to where it was taken from
  local value = redis.call('HGET', KEYS[1], ARGV[i] .. (slot % (slots + 1)))
  local before = nil
  if value then
    local stored, amount = parsed(value)
    if stored == slot then before = amount end
  end
  if change > 0 then
    put(ARGV[i], slots, slot, (before or 0) + change)
  elseif change < 0 and before then
    put(ARGV[i], slots, slot, math.max(0, before + change))
  end
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
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
"""

USED = (
    _RING
    + """
-- ARGV: for each window: name, ms of a slot, slots -> {requests under way, used in each window}
local answer = {redis.call('ZCOUNT', KEYS[2], now, '+inf')}
for i = 1, #ARGV, 3 do
  answer[#answer + 1] = string.format('%.0f', (seen(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))))
end
return answer
"""
)
