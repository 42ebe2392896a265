"""Load over plain HTTP/1.1 from a process with as little work of its own as Python allows: the client shares the cores.

`closed`  so many connections, each with its next request as soon as the last one is answered
`opened`  requests at a fixed rate, whether or not earlier ones are answered

Both are best run on uvloop. The time of a request begins when it is due: the making of a connection is part of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import urlsplit


@dataclass
class Answer:
    """seconds: to the whole answer; first: to the first byte of its body; gaps: between its pieces, as they came."""

    status: int
    seconds: float
    first: float
    gaps: list[float] = field(default_factory=list)


@dataclass
class Load:
    """What came of a load. wall: seconds in all; lost: requests without an answer, by what happened.

    unsent: requests that were due while all connections that the client may have were taken; cpu: seconds of work of
    the client itself.
    """

    answers: list[Answer] = field(default_factory=list)
    wall: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)
    unsent: int = 0
    cpu: float = 0.0

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.wall

    def milliseconds(self, share: float, what: str = "seconds", status: int = 200) -> float:
        """Quantile over the answers of this status."""
        good = sorted(getattr(answer, what) for answer in self.answers if answer.status == status)
        return 1e3 * good[min(len(good) - 1, int(share * len(good)))] if good else float("nan")

    @property
    def gap_ms(self) -> float:
        """Median between pieces."""
        gaps = sorted(gap for answer in self.answers for gap in answer.gaps)
        return 1e3 * gaps[len(gaps) // 2] if gaps else float("nan")


def request(url: str, path: str, key: str, body: bytes) -> bytes:
    """As bytes, to be sent again and again."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Wire(asyncio.Protocol):
    """A connection, with one request under way at most."""

    def __init__(self, client: "_Client", request: bytes, began: float) -> None:
        """request: is asked as soon as there is a connection."""
        self.asked = False
        self.transport: asyncio.Transport
        self._client, self._first, self._buffer = client, (request, began), bytearray()
        self._answer: Answer | None = None
        self._began = self._last = 0.0
        self._length: int | None = None  # bytes of the answer; None = it comes in chunks
        self._closes = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._client.opened(self)
        self.ask(*self._first)

    def ask(self, request: bytes, began: float) -> None:
        self._began = self._last = began
        self._answer, self.asked = None, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answer is None:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = bytes(self._buffer[:end]).lower()
            del self._buffer[:end]
            self._answer = Answer(int(head[9:12]), 0.0, 0.0)
            self._closes = b"\r\nconnection: close" in head
            length = head.find(b"\r\ncontent-length: ") + 18
            self._length = None if length < 18 else int(head[length : head.index(b"\r\n", length)])
        answer, now = self._answer, time.perf_counter()
        if self._length is None:
            if not self._chunks(answer, now):
                return
        elif len(self._buffer) < self._length:
            return
        else:
            answer.first = now - self._began
        self._buffer.clear()
        answer.seconds = now - self._began
        self.asked = False
        if self._closes:
            self.transport.close()
        self._client.answered(answer, None if self._closes else self)

    def _chunks(self, answer: Answer, now: float) -> bool:
        """Takes those that are there. Is the answer complete?"""
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:end], 16)
            if len(self._buffer) < end + size + 4:
                return False
            del self._buffer[: end + size + 4]
            if size == 0:
                return True
            if not answer.first:
                answer.first = now - self._began
            else:
                answer.gaps.append(now - self._last)
            self._last = now
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.ended(self, type(exc).__name__ if exc else "closed")


class _Client:
    """Sends requests, each on a connection that is idle, or a new one."""

    def __init__(self, url: str, connections: int, following: Iterator[bytes] | None = None) -> None:
        """following: what is sent as earlier requests end, one for one."""
        self.load = Load()
        self._connections, self._following = connections, following or iter(())
        where = urlsplit(url)
        self._host, self._port = str(where.hostname), int(where.port or 80)
        self._wires, self._idle = set[_Wire](), list[_Wire]()
        self._opening = set[asyncio.Task[None]]()
        self._open = 0  # connections, also those that are being made
        self._under_way, self._quiet = 0, asyncio.Event()

    def send(self, request: bytes) -> None:
        began = time.perf_counter()
        if not self._idle and self._open >= self._connections:
            self.load.unsent += 1
            return
        self._under_way += 1
        if self._idle:
            self._idle.pop().ask(request, began)
        else:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect(request, began))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self, request: bytes, began: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Wire(self, request, began), self._host, self._port)
        except OSError as error:
            self._open -= 1
            self._lose(type(error).__name__)

    def opened(self, wire: _Wire) -> None:
        self._wires.add(wire)

    def answered(self, answer: Answer, wire: _Wire | None) -> None:
        """wire: where the next one can go."""
        self.load.answers.append(answer)
        if wire is not None:
            self._idle.append(wire)
        self._next()

    def ended(self, wire: _Wire, why: str) -> None:
        self._wires.discard(wire)
        self._open -= 1
        if wire in self._idle:
            self._idle.remove(wire)
        if wire.asked:
            self._lose(why)
        elif not self._wires:
            self._quiet.set()

    def _lose(self, why: str) -> None:
        self.load.lost[why] += 1
        self._next()

    def _next(self) -> None:
        self._under_way -= 1
        if (following := next(self._following, None)) is not None:
            self.send(following)
        if not self._under_way:
            self._quiet.set()

    async def end(self, within: float) -> None:
        """Waits for the answers; those that are not there after so many seconds are lost."""
        if self._under_way:
            try:
                async with asyncio.timeout(within):
                    while self._under_way:
                        await self._quiet.wait()
                        self._quiet.clear()
            except TimeoutError:
                self.load.lost["late"] += self._under_way

    async def close(self) -> None:
        self._following = iter(())
        for task in self._opening:
            task.cancel()
        for wire in self._wires:
            wire.asked = False
            wire.transport.abort()
        while self._wires:
            self._quiet.clear()
            await self._quiet.wait()


async def closed(url: str, requests: Sequence[bytes], concurrency: int, within: float = 600.0) -> Load:
    """All requests, in their order, over so many connections."""
    waiting = iter(requests)
    client = _Client(url, 2 * concurrency, waiting)  # one that the server closes may end after the next is open

    async def send() -> None:
        for own in islice(waiting, concurrency):
            client.send(own)

    return await _measured(client, send, within)


async def opened(
    url: str, requests: Sequence[bytes], rate: float, within: float = 60.0, connections: int = 2000
) -> Load:
    """All requests, so many a second; one that has no answer `within` seconds of the last one's sending is lost."""
    client = _Client(url, connections)

    async def send() -> None:
        began, sent = time.perf_counter(), 0
        while sent < len(requests):
            due = min(len(requests), int((time.perf_counter() - began) * rate) + 1)
            for own in requests[sent:due]:
                client.send(own)
            sent = due
            await asyncio.sleep(max(0.001, began + sent / rate - time.perf_counter()))

    return await _measured(client, send, within)


async def _measured(client: _Client, send: Callable[[], Awaitable[None]], within: float) -> Load:
    began, cpu = time.perf_counter(), time.process_time()
    await send()
    await client.end(within)
    client.load.wall, client.load.cpu = time.perf_counter() - began, time.process_time() - cpu
    await client.close()
    return client.load
