"""Connections that are passed on: what stands before the gateways, as a Service of Kubernetes does, and before Redis.

A relay knows nothing of what it passes. A connection goes to the next of its targets that takes one; it ends as its
other side ends, and one that no target takes is closed. It can be told to be slow, or to be silent.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Connection]]
PIECE = 1 << 16


def tcp(port: int) -> Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def unix(path: Path) -> Connect:
    return lambda: asyncio.open_unix_connection(path)


class Relay:
    """delay_s: before each piece that goes back. Use its methods in the loop that serves it."""

    def __init__(self, targets: Sequence[Connect]) -> None:
        self.delay_s = 0.0
        self._targets = targets
        self._next = 0
        self._open = asyncio.Event()
        self._open.set()
        self._tasks = set[asyncio.Task[None]]()
        self._server: asyncio.Server | None = None

    async def on_tcp(self) -> int:
        """Listens on loopback. Returns the port."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def on_unix(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._take, path)

    def hold(self) -> None:
        """Passes nothing on from now on; connections stay open, and new ones are taken."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # asyncio asks for the exception of what serves a connection, and may not be told that it was cancelled.
            with contextlib.suppress(asyncio.CancelledError):
                await self._pass(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        try:
            found = await self._connected()
            if found is None:
                return
            answers, back = found
            there = asyncio.ensure_future(self._pump(reader, back, delayed=False))
            here = asyncio.ensure_future(self._pump(answers, writer, delayed=True))
            try:
                await asyncio.wait((there, here), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                here.cancel()
                await asyncio.gather(there, here, return_exceptions=True)
        finally:
            writer.close()
            if back is not None:
                back.close()

    async def _connected(self) -> Connection | None:
        first, self._next = self._next, self._next + 1
        for number in range(len(self._targets)):
            with contextlib.suppress(OSError):
                return await self._targets[(first + number) % len(self._targets)]()
        return None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._open.wait()
                if delayed and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
