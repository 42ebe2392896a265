"""A service behind a real uvicorn on loopback, and a client that sends bytes as an attacker would."""

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from orchestrator.http.api import BOUNDS
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.guards import Bounds
from orchestrator.http.server import make_server
from orchestrator.reporter import Banner
from tests.orchestrator.parts import Service


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error, which must have OpenAI's shape."""
        content = json.loads(self.body)
        assert content.keys() == {"error"}
        error: dict[str, Any] = content["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        assert self.headers["content-type"] == "application/json"
        return str(error["code"])


class SilentReporter:
    """Tells nobody how a start goes."""

    def say(self, line: str) -> None: ...

    def progress(self, what: str, done: int, of: int) -> None: ...

    def ready(self, banner: Banner) -> None: ...


def sized(body: bytes) -> bytes:
    """The end of a head and a body of the length that it says."""
    return b"content-length: %d\r\n\r\n" % len(body) + body


class Wire:
    """A connection of raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> bool:
        """Is the connection still there? What the server does not take any more is lost."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            return False
        return True

    async def answer(self) -> Answer:
        """The next answer with a length. Raises EOFError if there is none."""
        async with asyncio.timeout(60):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def until(self, end: bytes) -> bytes:
        """What comes up to these bytes. Raises EOFError if they do not come."""
        async with asyncio.timeout(60):
            return await self._reader.readuntil(end)

    async def ended(self) -> bytes:
        """What comes until the server closes the connection, which it must."""
        async with asyncio.timeout(60):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self._writer.close()


@dataclass
class Served:
    service: Service
    server: uvicorn.Server
    port: int

    @asynccontextmanager
    async def wire(self, **options: Any) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, data: bytes) -> Answer:
        """The answer to these bytes, on a connection of their own."""
        async with self.wire() as wire:
            await wire.send(data)
            return await wire.answer()

    async def lives(self) -> bool:
        """Is another client still served?"""
        return (await self.ask(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")).status == 200

    @property
    def head(self) -> bytes:
        """Of a chat with a good key, to be followed by further headers and an empty line."""
        return f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.service.key}\r\n".encode()


@asynccontextmanager
async def served(
    service: Service, bounds: Bounds = BOUNDS, tls: ssl.SSLContext | None = None, keeper: Doorkeeper | None = None
) -> AsyncIterator[Served]:
    """The service behind a server, which ends with it."""
    server = make_server(service.app, bounds, tls=tls, keeper=keeper)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield Served(service, server, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving
        await service.stop()


@contextmanager
def in_background(start: Callable[[], Awaitable[Service]]) -> Iterator[tuple[str, Service]]:
    """(address, service) in a thread with a loop of its own, for clients that block. The store is closed with it."""
    ready, stop = threading.Event(), threading.Event()
    found: list[tuple[str, Service]] = []

    async def serve() -> None:
        try:
            service = await start()
            async with served(service) as running:
                found.append((f"http://127.0.0.1:{running.port}", service))
                ready.set()
                await asyncio.to_thread(stop.wait)
            await service.store.close()
        finally:
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        ready.wait()
        assert found, "the service did not start"
        yield found[0]
    finally:
        stop.set()
        thread.join()
