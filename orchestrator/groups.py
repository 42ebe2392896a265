"""Writes that nobody waits for, done for many at a time: a round trip costs the same for one as for a hundred."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)

EVERY_S = 0.03
"""Between two groups."""
LARGEST = 500


class Groups(Generic[T]):
    """Items in, groups out, in their order: the first item goes at once, those that follow soon after it together.

    write: takes a group; what it raises is logged, and the next group goes on. most: items that may wait, no more are
    taken.
    """

    def __init__(self, write: Callable[[list[T]], Awaitable[None]], most: int) -> None:
        self._write, self._most = write, most
        self._waiting: deque[T] = deque()
        self._in_work = 0
        self._taken = self._done = 0
        self._writer: asyncio.Task[None] | None = None

    def add(self, item: T) -> bool:
        """False if so many wait already that this one is not taken."""
        if len(self._waiting) + self._in_work >= self._most:
            return False
        self._waiting.append(item)
        self._taken += 1
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._work())
        return True

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(LARGEST, len(self._waiting)))]
                self._in_work = len(group)
                try:
                    await self._write(group)
                except Exception:
                    log.exception("a group was not written", items=len(group))
                finally:
                    self._in_work = 0
                    self._done += len(group)
                await asyncio.sleep(EVERY_S)
        finally:
            self._writer = None

    async def catch_up(self) -> None:
        """Waits until what waits now is written, or lost, however much comes meanwhile."""
        until = self._taken
        while self._done < until and self._writer is not None:
            await asyncio.wait([self._writer], timeout=EVERY_S)

    async def drain(self) -> None:
        """Waits until nothing waits any more."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
