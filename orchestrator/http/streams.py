"""Streaming over ASGI: waiting with a time limit, server-sent events, and clients that leave."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


class Timed(Generic[T]):
    """An async generator that can be asked with a time limit, without losing what comes later."""

    def __init__(self, events: AsyncGenerator[T, None]) -> None:
        self._events = events
        self._pending: asyncio.Task[T] | None = None

    async def get(self, within: float) -> T | None:
        """The next event, or None if none came within so many seconds."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._next())
        await asyncio.wait((self._pending,), timeout=max(0.0, within))
        if not self._pending.done():
            return None
        done, self._pending = self._pending, None
        return done.result()

    async def close(self) -> None:
        """Closes the generator, also in the middle of its work."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait((self._pending,))
            self._pending = None
        await self._events.aclose()

    async def _next(self) -> T:
        return await anext(self._events)


class EventStream(Response):
    """Server-sent events. Headers go out at once; when the client leaves, the generator of frames is closed."""

    def __init__(self, frames: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self._frames = frames
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._send(send))
        except (ClientGone, OSError):
            log.info("client gone")

    async def _send(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The body must have been read.

    Raises ClientGone, and whatever `work` raises.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientGone
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
