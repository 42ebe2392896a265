"""Requests with an Idempotency-Key: executed once, answered alike ever after.

    coe:once:<digest of caller and Idempotency-Key>   hash, expires:
        print    SHA-256 of method, path and body
        holder   who executes it, while it is under way; the key then lives as long as the lease
        head     status and headers of the answer as JSON, once there is one; "" for one that was too large to be kept
        body     of the answer

A gateway renews the leases of what it executes. When one has crashed, its leases end and the next try executes.
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from orchestrator.store import Store, StoreUnavailable

LEASE_S = 10.0

log = structlog.stdlib.get_logger(__name__)

_CLAIM = """
-- ARGV: print, holder, lease in ms -> what there is: mine, other (body), running, lost, or done with head and body
local print, head = unpack(redis.call('HMGET', KEYS[1], 'print', 'head'))
if not print then
  redis.call('HSET', KEYS[1], 'print', ARGV[1], 'holder', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'mine'}
end
if print ~= ARGV[1] then return {'other'} end
if not head then
  if redis.call('HGET', KEYS[1], 'holder') == ARGV[2] then return {'mine'} end
  return {'running'}
end
if head == '' then return {'lost'} end
return {'done', head, redis.call('HGET', KEYS[1], 'body')}
"""

_RENEW = """
-- ARGV: print, holder, lease in ms. A lease that ran out while Redis was away is taken again if nobody else has.
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'print', ARGV[1], 'holder', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

_END = """
-- ARGV: print, holder, ttl in ms, head, body; without a head it is as if the request had never come
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
if #ARGV > 3 then
  redis.call('HSET', KEYS[1], 'print', ARGV[1], 'head', ARGV[4], 'body', ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer. headers: (name, value) in the order in which they were sent; body: text in UTF-8."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


@dataclass(frozen=True, slots=True)
class Lost:
    """There was an answer, which was too large to be kept."""


@dataclass(frozen=True, slots=True)
class Other:
    """The key was used with another body."""


@dataclass(frozen=True, slots=True)
class Running:
    """Another try is executing it."""


class Execution:
    """A request that is ours to execute."""

    def __init__(self, store: Store, key: str, print_: str, holder: str, lease_s: float) -> None:
        self._store, self._key, self._print, self._holder, self._lease_s = store, key, print_, holder, lease_s

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renews the lease while the block runs."""
        task = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def keep(self, answer: Kept | Lost, ttl_s: float) -> None:
        """Stores the answer for later tries. While Redis is away they execute the request anew."""
        if isinstance(answer, Lost):
            await self._end([int(ttl_s * 1000), "", ""])
        else:
            head = json.dumps([answer.status, answer.headers])
            await self._end([int(ttl_s * 1000), head, answer.body])

    async def forget(self) -> None:
        """There is no answer to keep: the next try executes the request."""
        await self._end([0])

    async def _end(self, args: Sequence[str | int]) -> None:
        try:
            await self._store.run(_END, [self._key], [self._print, self._holder, *args])
        except StoreUnavailable as error:
            log.warning("the answer to a request with an Idempotency-Key is not kept", why=str(error))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with suppress(StoreUnavailable):
                await self._store.run(_RENEW, [self._key], [self._print, self._holder, int(self._lease_s * 1000)])


async def claim(
    store: Store, caller: str, key: str, request: bytes, lease_s: float = LEASE_S
) -> Execution | Kept | Lost | Other | Running:
    """What is to be done with a request: execute it, or what there is of it already.

    caller: whose key it is. request: what has to be the same in every try. Raises StoreUnavailable.
    """
    name = "coe:once:" + hashlib.sha256(f"{caller}\n{key}".encode()).hexdigest()
    print_, holder = hashlib.sha256(request).hexdigest(), uuid.uuid4().hex
    state, *rest = await store.run(_CLAIM, [name], [print_, holder, int(lease_s * 1000)])
    if state == "done":
        status, headers = json.loads(rest[0])
        return Kept(status, tuple((header, value) for header, value in headers), rest[1])
    if state == "mine":
        return Execution(store, name, print_, holder, lease_s)
    return Other() if state == "other" else Lost() if state == "lost" else Running()
