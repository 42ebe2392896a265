"""Who answered a conversation's last turn, so that the same expert can stay (`routers.policies.conversation`)."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import orjson
import structlog

from orchestrator.events import Ask
from orchestrator.store import Store, StoreUnavailable

QUIET_S = 5.0
"""After a failure of Redis it is not asked for so long: its time-out would be added to every turn."""
MAX_REMEMBERED = 100_000
"""Conversations that a process keeps in mind without Redis; the one that was quiet for longest goes."""
MAX_UNWRITTEN = 1000
"""Turns that may wait for a slow Redis; more are forgotten."""

log = structlog.stdlib.get_logger(__name__)


class Turns(Protocol):
    async def last(self, conversation: str) -> str | None:
        """The expert of the last turn; None if there was none, or if it cannot be told. Never raises."""
        ...

    def keep(self, conversation: str, expert: str) -> None:
        """Remembers the expert of a turn. Nobody waits for it."""
        ...

    async def drain(self) -> None:
        """Waits until what is kept is kept."""
        ...


class RememberedTurns:
    """In this process: for one gateway without Redis, and for tests. A restart forgets all."""

    def __init__(self, ttl_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._now = ttl_s, now
        self._turns: OrderedDict[str, tuple[float, str]] = OrderedDict()  # conversation -> (until, expert)

    async def last(self, conversation: str) -> str | None:
        until, expert = self._turns.get(conversation, (0.0, None))
        return expert if until > self._now() else None

    def keep(self, conversation: str, expert: str) -> None:
        self._turns[conversation] = (self._now() + self._ttl_s, expert)
        self._turns.move_to_end(conversation)
        if len(self._turns) > MAX_REMEMBERED:
            self._turns.popitem(last=False)

    async def drain(self) -> None:
        """Nothing to wait for."""


class StoredTurns:
    """In Redis, shared by all gateways. While it is away, conversations go on as if each turn were the first."""

    def __init__(self, store: Store, ttl_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._store, self._ttl_s, self._now = store, ttl_s, now
        self._quiet_until = float("-inf")
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def is_quiet(self) -> bool:
        """Is Redis left alone after a failure?"""
        return self._now() < self._quiet_until

    @property
    def unwritten(self) -> int:
        """Turns that are still to be written."""
        return len(self._writing)

    async def last(self, conversation: str) -> str | None:
        if self.is_quiet:
            return None
        try:
            return await self._store.last_turn(conversation)
        except StoreUnavailable as error:
            self._away(error)
            return None

    def keep(self, conversation: str, expert: str) -> None:
        if self.is_quiet or self.unwritten >= MAX_UNWRITTEN:
            return
        task = asyncio.get_running_loop().create_task(self._write(conversation, expert))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def drain(self) -> None:
        await asyncio.gather(*self._writing)

    async def _write(self, conversation: str, expert: str) -> None:
        try:
            await self._store.keep_turn(conversation, expert, self._ttl_s)
        except StoreUnavailable as error:
            self._away(error)

    def _away(self, error: StoreUnavailable) -> None:
        self._quiet_until = self._now() + QUIET_S
        log.warning("conversations do not keep their expert until Redis is back", why=str(error))


def conversation_of(ask: Ask) -> tuple[str, bool]:
    """(the conversation's key, does it go on from an earlier turn?).

    The key is a digest of the caller and of the id that the request gives. Without one it is of the caller, the user
    and the messages up to the first of a user, which every turn repeats: conversations of one user that open with the
    same words share a key, and clients that cut off their history need an id. Callers never share a key.
    """
    if ask.conversation is not None:
        return _digest(ask.caller, "id", ask.conversation), True
    first = next((n for n, message in enumerate(ask.messages) if message["role"] == "user"), len(ask.messages) - 1)
    opening = [[message["role"], message["content"]] for message in ask.messages[: first + 1]]
    goes_on = any(message["role"] == "assistant" for message in ask.messages)
    return _digest(ask.caller, "opening", ask.user, opening), goes_on


def _digest(*parts: object) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
