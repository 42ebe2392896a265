"""What outlives a process or is shared by several: API keys, decision records, feedback, conversations; in Redis.

One implementation for the embedded and for an external server. No command is newer than Redis 6.2.

Keys in Redis:
    coe:keys            hash, SHA-256 of an API key -> what is known of it (never the key)
    coe:decision:<id>   one decision record as JSON, expires after records.ttl_s
    coe:routes          sorted set of "<id> <lineage of the key>" by Unix time, at most records.keep
    coe:routes:<lineage>  the same of one key
    coe:feedback:<id>   what a user said of the answer to that request as JSON, expires after FEEDBACK_TTL_S
    coe:feedbacks       sorted set of these request ids by Unix time, at most MAX_FEEDBACK
    coe:turn:<digest>   expert that answered a conversation's last turn, expires after the policy's ttl_s
    coe:{use,lease,held,ended}:{<id>}   what a key has used, and its requests under way: orchestrator.access.limiter
    coe:once:<digest>   a request with an Idempotency-Key, under way or answered: orchestrator.access.once
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

T = TypeVar("T")

MAX_DECISIONS = 10_000
DECISION_TTL_S = 7 * 24 * 3600
MAX_FEEDBACK = 10_000
FEEDBACK_TTL_S = 90 * 24 * 3600
FORGOTTEN = 500
"""Old decision records that go with a write of few: very many may be over where `records.keep` was lowered."""
PAGE = 200
"""Records that are read at a time, where all are wanted."""
TIMEOUT_S = 1.0
"""The longest that one call may take. Chat goes on without a store, so waiting longer for it would only harm."""

_KEYS, _DECISION, _ROUTES = "coe:keys", "coe:decision:", "coe:routes"
_FEEDBACK, _FEEDBACKS = "coe:feedback:", "coe:feedbacks"
_TURN = "coe:turn:"

_SWAP = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
"""Writes a field of a hash, if nobody else has meanwhile."""
_PAGE_OF_INDEX = """
local first = 0
if ARGV[2] ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[2])
  if not rank then return {} end
  first = rank + 1
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1)
"""
"""So many members behind the given one, in one look: else what is written meanwhile would shift them."""


class StoreUnavailable(RuntimeError):
    """Redis cannot be reached, or does not do what it is asked; the message says which and what to do."""


class Store:
    """Keys, decision records, feedback and conversations on one Redis. Every method raises StoreUnavailable.

    url: redis://, rediss:// or unix://. Connections are made when they are needed, by the event loop that needs them.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT_S) -> None:
        self._timeout = timeout
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=32,
                timeout=timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                decode_responses=True,
                # One immediate second try: a server that was restarted leaves dead connections in the pool.
                retry=Retry(NoBackoff(), 1),
            )
            self._shown = hide_password(url)
        except ValueError:
            # Quoting nothing of it: in a mistyped URL the password may stand anywhere.
            allowed = "redis://HOST:6379/0, rediss://HOST:6380/0 or unix:///PATH"
            raise ValueError(f"the Redis URL (not shown) is not valid; allowed: {allowed}") from None
        self._redis = Redis(connection_pool=pool)
        self._scripts: dict[str, AsyncScript] = {}

    def __repr__(self) -> str:
        return f"Store({self._shown!r})"

    async def ping(self) -> None:
        """Raises StoreUnavailable if Redis does not answer."""
        await self._do(cast(Awaitable[Any], self._redis.ping()))

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()

    # API keys

    async def put_key(self, digest: str, info: Mapping[str, Any]) -> None:
        await self._do(self._redis.hset(_KEYS, digest, json.dumps(dict(info))))

    async def get_key(self, digest: str) -> dict[str, Any] | None:
        raw = await self._do(cast(Awaitable[str | None], self._redis.hget(_KEYS, digest)))
        return None if raw is None else cast(dict[str, Any], json.loads(raw))

    async def all_keys(self) -> dict[str, dict[str, Any]]:
        raw = await self._do(cast(Awaitable[dict[str, str]], self._redis.hgetall(_KEYS)))
        return {digest: json.loads(info) for digest, info in raw.items()}

    async def delete_key(self, digest: str) -> bool:
        return bool(await self._do(self._redis.hdel(_KEYS, digest)))

    async def change_key(
        self, digest: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Stores what `change` makes of the key, also when others change it too; None if it is gone."""
        while (raw := await self._do(cast(Awaitable[str | None], self._redis.hget(_KEYS, digest)))) is not None:
            changed = change(json.loads(raw))
            if await self.run(_SWAP, [_KEYS], [digest, raw, json.dumps(changed)]):
                return changed
        return None

    # Scripts

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int | float | bytes]) -> Any:
        """The result of a Lua script, which the server knows by its digest after the first time (EVALSHA)."""
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._redis.register_script(script)
        return await self._do(known(keys=list(keys), args=list(args)))

    # Decision records

    async def record(
        self, decisions: Sequence[Mapping[str, Any]], keep: int = MAX_DECISIONS, ttl_s: float = DECISION_TTL_S
    ) -> None:
        """Stores decision records, oldest first, for `ttl_s` seconds. The oldest beyond `keep` go, so memory is bounded
        at any rate; FORGOTTEN at a time, and at least twice as many as come."""
        pipe = self._redis.pipeline(transaction=True)
        rows: dict[str, dict[str, float]] = {_ROUTES: {}}
        for decision in decisions:
            member = _member(decision)
            rows[_ROUTES][member] = rows.setdefault(_index(_owner(member)), {})[member] = decision["at"]
            pipe.set(_DECISION + decision["request_id"], orjson.dumps(decision), px=int(ttl_s * 1000))
        over = decisions[-1]["at"] - ttl_s
        for index, members in rows.items():
            pipe.zadd(index, members)
            pipe.zremrangebyscore(index, "-inf", over)
            pipe.pexpire(index, int(ttl_s * 1000))
        pipe.zcard(_ROUTES)
        *_, length = await self._do(cast(Awaitable[list[Any]], pipe.execute()))
        if length > keep:
            with suppress(StoreUnavailable):  # these are stored; who comes next forgets the others
                await self._forget(min(length - keep, max(FORGOTTEN, 2 * len(decisions))))

    async def _forget(self, count: int) -> None:
        """The oldest decision records, so many, wholly or not at all."""
        oldest = await self._do(cast(Awaitable[list[str]], self._redis.zrange(_ROUTES, 0, count - 1)))
        pipe = self._redis.pipeline(transaction=True)
        for member in oldest:
            pipe.delete(_DECISION + member.partition(" ")[0])
            pipe.zrem(_index(_owner(member)), member)
            pipe.zrem(_ROUTES, member)
        await self._do(cast(Awaitable[list[Any]], pipe.execute()))

    async def decision(self, request_id: str) -> dict[str, Any] | None:
        raw = await self._do(cast(Awaitable[str | None], self._redis.get(_DECISION + request_id)))
        return None if raw is None else cast(dict[str, Any], json.loads(raw))

    async def decisions(
        self, limit: int = 100, owner: str | None = None, after: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The newest decision records, newest first; those that expired are left out. owner: lineage of the key whose
        they are, None for all. after: a record, those before which are wanted."""
        index = _ROUTES if owner is None else _index(owner)
        members: list[str] = await self.run(_PAGE_OF_INDEX, [index], [limit, _member(after) if after else ""])
        if not members:
            return []
        keys = [_DECISION + member.partition(" ")[0] for member in members]
        records = await self._do(cast(Awaitable[list[str | None]], self._redis.mget(keys)))
        return [orjson.loads(raw) for raw in records if raw is not None]

    async def prompts(self, request_ids: Sequence[str]) -> dict[str, str]:
        """Request id -> what the router read of it, of those whose decision records are there and have it."""
        found: dict[str, str] = {}
        for start in range(0, len(request_ids), PAGE):
            page = request_ids[start : start + PAGE]
            keys = [_DECISION + request_id for request_id in page]
            records = await self._do(cast(Awaitable[list[str | None]], self._redis.mget(keys)))
            for request_id, raw in zip(page, records, strict=True):
                if raw is not None and (prompt := orjson.loads(raw).get("prompt")) is not None:
                    found[request_id] = prompt
        return found

    # Conversations

    async def keep_turn(self, conversation: str, expert: str, ttl_s: float) -> None:
        """Stores who answered the last turn, for `ttl_s` seconds."""
        await self._do(self._redis.set(_TURN + conversation, expert, px=int(ttl_s * 1000)))

    async def last_turn(self, conversation: str) -> str | None:
        return await self._do(cast(Awaitable[str | None], self._redis.get(_TURN + conversation)))

    # Feedback

    async def put_feedback(self, request_id: str, row: Mapping[str, Any], at: float) -> None:
        """Stores what a user said at Unix time `at`, in place of what was said of that request before. The oldest rows
        beyond MAX_FEEDBACK go."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.set(_FEEDBACK + request_id, json.dumps(dict(row)), ex=FEEDBACK_TTL_S)
        pipe.zadd(_FEEDBACKS, {request_id: at})
        pipe.zremrangebyscore(_FEEDBACKS, "-inf", at - FEEDBACK_TTL_S)
        pipe.zcard(_FEEDBACKS)
        *_, length = await self._do(cast(Awaitable[list[Any]], pipe.execute()))
        if length > MAX_FEEDBACK:
            surplus = await self._do(
                cast(Awaitable[list[tuple[str, float]]], self._redis.zpopmin(_FEEDBACKS, length - MAX_FEEDBACK))
            )
            if surplus:
                await self._do(self._redis.delete(*(_FEEDBACK + old for old, _ in surplus)))

    async def feedback(self) -> list[dict[str, Any]]:
        """All rows that are kept, oldest first."""
        ids = await self._do(cast(Awaitable[list[str]], self._redis.zrange(_FEEDBACKS, 0, -1)))
        if not ids:
            return []
        rows = await self._do(
            cast(Awaitable[list[str | None]], self._redis.mget([_FEEDBACK + request_id for request_id in ids]))
        )
        return [json.loads(row) for row in rows if row is not None]

    async def feedback_on(self, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Request id -> the row that is kept of it, of those that have one."""
        if not request_ids:
            return {}
        keys = [_FEEDBACK + request_id for request_id in request_ids]
        rows = await self._do(cast(Awaitable[list[str | None]], self._redis.mget(keys)))
        return {own: json.loads(raw) for own, raw in zip(request_ids, rows, strict=True) if raw is not None}

    async def _do(self, command: Awaitable[T]) -> T:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self._timeout):
                answer = await command
                if task and task.cancelling() > before:
                    raise asyncio.CancelledError
                return answer
        except TimeoutError:
            why = f"no answer within {self._timeout:g} s"
        except (RedisError, OSError) as error:
            why = str(error) or type(error).__name__
        if task and task.cancelling() > before:
            # redis-py loses a cancellation that comes in the moment of an answer, or before one that does not come: the
            # task would never end.
            raise asyncio.CancelledError
        raise StoreUnavailable(f"Redis at {self._shown}: {why}; check that it runs and that COE_REDIS_URL is right")


def _member(decision: Mapping[str, Any]) -> str:
    return f"{decision['request_id']} {decision.get('key', '')}"


def _owner(member: str) -> str:
    return member.partition(" ")[2]


def _index(owner: str) -> str:
    return f"{_ROUTES}:{owner}"


def hide_password(url: str) -> str:
    """The URL without user, password and options, for logs and messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
