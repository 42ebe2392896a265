"""How long runners live and when they go down, with the line that they run alone or without one: evidence for `blame`.

    lives             sorted set of runners -> when each is taken for dead, in ms
    life              hash, runner -> when it was last heard of, and which line it runs alone, as JSON
    lived             hash: ms of all runners while they ran no line alone, and deaths in them
    down:<job>        hash: <step>:ms and <step>:deaths of what ran the step alone, <step>:from of `lived` before it

A runner that hangs is as dead as one that was killed. Times are lower bounds for runners as a whole and upper bounds
for a line alone, so that doubt speaks for the line. All keys are as in `scripts`.
"""

import uuid
from collections.abc import Sequence

from orchestrator.batch.blame import Span
from orchestrator.batch.scripts import HEAD, PREFIX
from orchestrator.store import Store

_LIVES = (
    HEAD
    + """
-- Time and deaths of a runner count for the line that it ran alone, or for all runners.
local function count(entry, ms, deaths)
  if not entry.job then
    redis.call('HINCRBY', P .. 'lived', 'ms', ms)
    redis.call('HINCRBY', P .. 'lived', 'deaths', deaths)
  elseif redis.call('ZSCORE', P .. 'live', entry.job) then
    redis.call('HINCRBY', P .. 'down:' .. entry.job, entry.step .. ':ms', ms)
    redis.call('HINCRBY', P .. 'down:' .. entry.job, entry.step .. ':deaths', deaths)
  end
end

local function forget(runner)
  redis.call('ZREM', P .. 'lives', runner)
  redis.call('HDEL', P .. 'life', runner)
end

-- How long it lived on after its last sign nobody knows: for a line alone, as long as it can have been.
for _, runner in ipairs(redis.call('ZRANGEBYSCORE', P .. 'lives', '-inf', now)) do
  local entry = cjson.decode(redis.call('HGET', P .. 'life', runner))
  count(entry, entry.job and entry.every or 0, 1)
  forget(runner)
end

local raw = redis.call('HGET', P .. 'life', ARGV[1])
if raw then
  local entry = cjson.decode(raw)
  count(entry, now - entry.seen, 0)
end
"""
)

_BEAT = (
    _LIVES
    + """
-- ARGV: runner, ms between signs, ms until it is taken for dead, the job and step that it runs alone, or '', ''
-- -> of that step {deaths, ms, deaths of all runners meanwhile, their ms}
local entry = {seen = now, every = tonumber(ARGV[2])}
if ARGV[4] ~= '' then
  entry.job, entry.step = ARGV[4], ARGV[5]
end
redis.call('ZADD', P .. 'lives', now + ARGV[3], ARGV[1])
redis.call('HSET', P .. 'life', ARGV[1], cjson.encode(entry))
if not entry.job then return {} end
local lived = redis.call('HMGET', P .. 'lived', 'deaths', 'ms')
local deaths, ms = tonumber(lived[1] or '0'), tonumber(lived[2] or '0')
local down = P .. 'down:' .. entry.job
redis.call('HSETNX', down, entry.step .. ':from', deaths .. ' ' .. ms)
local from = {}
for number in string.gmatch(redis.call('HGET', down, entry.step .. ':from'), '%d+') do
  from[#from + 1] = tonumber(number)
end
-- A Redis that lost its memory has counted from 0 since.
if from[1] > deaths or from[2] > ms then from = {0, 0} end
local own = redis.call('HMGET', down, entry.step .. ':deaths', entry.step .. ':ms')
return {tonumber(own[1] or '0'), tonumber(own[2] or '0'), deaths - from[1], ms - from[2]}
"""
)

_LEAVE = _LIVES + "forget(ARGV[1])"

_DEATHS = """
-- ARGV: job, steps ... -> deaths of each, or false
local names = {}
for i = 2, #ARGV do names[#names + 1] = ARGV[i] .. ':deaths' end
return redis.call('HMGET', KEYS[1] .. 'down:' .. ARGV[1], unpack(names))
"""

_PART = 1000
"""Lua has no room for many more values at a time."""


class Lives:
    """The life of this runner, and what is known of all. Every method raises StoreUnavailable.

    every_s: between two calls of `beat`. dead_s: without one after which it is taken for dead.
    """

    def __init__(self, store: Store, every_s: float, dead_s: float) -> None:
        self._store, self._every_ms, self._dead_ms = store, int(every_s * 1000), int(dead_s * 1000)
        self._name = uuid.uuid4().hex
        self._alone: tuple[str, int] | None = None

    async def beat(self) -> None:
        """This runner lives."""
        await self._beat()

    async def alone(self, job_id: str, step: int) -> tuple[Span, Span]:
        """This runner is about to run the step, and nothing beside it, until `together`. What is known until now: of
        what ran the step alone, and of all runners meanwhile."""
        self._alone = job_id, step
        deaths, ms, all_deaths, all_ms = await self._beat()
        return Span(deaths, ms / 1000), Span(all_deaths, all_ms / 1000)

    async def together(self) -> None:
        """No step is run alone any more."""
        self._alone = None
        await self._beat()

    async def leave(self) -> None:
        """This runner ends in good order."""
        await self._store.run(_LEAVE, [PREFIX], [self._name])

    async def deaths(self, job_id: str, steps: Sequence[int]) -> list[int]:
        """How many runners went down while they ran each of the steps alone."""
        found: list[str | None] = []
        for begin in range(0, len(steps), _PART):
            found += await self._store.run(_DEATHS, [PREFIX], [job_id, *steps[begin : begin + _PART]])
        return [int(known or 0) for known in found]

    async def _beat(self) -> list[int]:
        job_id, step = self._alone or ("", "")
        found: list[int] = await self._store.run(
            _BEAT, [PREFIX], [self._name, self._every_ms, self._dead_ms, job_id, step]
        )
        return found
