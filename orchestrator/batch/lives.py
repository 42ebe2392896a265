"""How long runners live and when they go down, with what is watched or without it: evidence for `blame`.

What is watched is a step that is run alone, or the planning or finishing of a job that was begun often.

    lives             sorted set of runners -> when each is taken for dead, in ms
    life              hash, runner -> when it was last heard of, and what is watched there, as JSON
    lived             hash: ms of all runners while nothing was watched, and deaths in them
    down:<job>        hash: <what>:ms and <what>:deaths of runners while that was watched, <what>:from of `lived` before

A runner that hangs is as dead as one that was killed. Times are lower bounds for runners as a whole and upper bounds
for what is watched, so that doubt speaks for it. All keys are as in `scripts`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

from orchestrator.batch.blame import Span
from orchestrator.batch.scripts import HEAD, PREFIX
from orchestrator.store import Store, StoreUnavailable

_LIVES = (
    HEAD
    + """
-- Time and deaths of a runner count for what was watched there, or for all runners.
local function count(entry, ms, deaths)
  if not entry.job then
    redis.call('HINCRBY', P .. 'lived', 'ms', ms)
    redis.call('HINCRBY', P .. 'lived', 'deaths', deaths)
  elseif redis.call('ZSCORE', P .. 'live', entry.job) then
    redis.call('HINCRBY', P .. 'down:' .. entry.job, entry.what .. ':ms', ms)
    redis.call('HINCRBY', P .. 'down:' .. entry.job, entry.what .. ':deaths', deaths)
  end
end

local function forget(runner)
  redis.call('ZREM', P .. 'lives', runner)
  redis.call('HDEL', P .. 'life', runner)
end

-- How long it lived on after its last sign nobody knows: for what is watched, as long as it can have been.
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
-- ARGV: runner, ms between signs, ms until it is taken for dead, the job and what is watched of it, or '', '', the same
-- of what is asked -> of that {deaths, ms, deaths of all runners meanwhile, their ms}
local entry = {seen = now, every = tonumber(ARGV[2])}
if ARGV[4] ~= '' then
  entry.job, entry.what = ARGV[4], ARGV[5]
end
redis.call('ZADD', P .. 'lives', now + ARGV[3], ARGV[1])
redis.call('HSET', P .. 'life', ARGV[1], cjson.encode(entry))
if ARGV[6] == '' then return {} end
local lived = redis.call('HMGET', P .. 'lived', 'deaths', 'ms')
local deaths, ms = tonumber(lived[1] or '0'), tonumber(lived[2] or '0')
local down, what = P .. 'down:' .. ARGV[6], ARGV[7]
redis.call('HSETNX', down, what .. ':from', deaths .. ' ' .. ms)
local from = {}
for number in string.gmatch(redis.call('HGET', down, what .. ':from'), '%d+') do from[#from + 1] = tonumber(number) end
-- A Redis that lost its memory has counted from 0 since.
if from[1] > deaths or from[2] > ms then from = {0, 0} end
local own = redis.call('HMGET', down, what .. ':deaths', what .. ':ms')
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

Task = Literal["plan", "finish"]
RETRY_S = 0.2
_PART = 1000
"""Lua has no room for many more values at a time."""


class Lives:
    """The life of this runner, and what is known of all. Every method raises StoreUnavailable.

    every_s: between two calls of `beat`. dead_s: without one after which it is taken for dead.
    """

    def __init__(self, store: Store, every_s: float, dead_s: float) -> None:
        self._store, self._every_ms, self._dead_ms = store, int(every_s * 1000), int(dead_s * 1000)
        self._name = uuid.uuid4().hex
        self._watched: list[tuple[str, str]] = []

    async def beat(self) -> None:
        """This runner lives."""
        await self._beat()

    @asynccontextmanager
    async def watched(self, job_id: str, what: int | Task) -> AsyncIterator[tuple[Span, Span]]:
        """While the block runs, this step, alone, or the task is under way here: of two, the later one is watched. What
        is known until now: of runners while it was, and of all runners meanwhile. Waits until Redis is there."""
        own = job_id, str(what) if isinstance(what, int) else what
        self._watched.append(own)
        try:
            found: list[int] = []
            while not found:
                try:
                    found = await self._beat(own)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)
            deaths, ms, all_deaths, all_ms = found
            yield Span(deaths, ms / 1000), Span(all_deaths, all_ms / 1000)
        finally:
            self._watched.remove(own)
            with suppress(StoreUnavailable):  # then the next beat tells it
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

    async def _beat(self, asked: tuple[str, str] = ("", "")) -> list[int]:
        now = self._watched[-1] if self._watched else ("", "")
        found: list[int] = await self._store.run(
            _BEAT, [PREFIX], [self._name, self._every_ms, self._dead_ms, *now, *asked]
        )
        return found
