"""Load over plain HTTP/1.1 from a process with as little work of its own as Python allows: the client shares the cores.

`closed`  so many connections, each with its next request as soon as the last one is answered
`opened`  requests at a fixed rate, whether or not earlier ones are answered
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """What came of a load. wall: seconds in all; lost: requests without an answer, by what happened."""

    answers: list[Answer]
    wall: float
    lost: Counter[str]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.wall

    def milliseconds(self, share: float, what: str = "seconds") -> float:
        """Quantile over the good answers."""
        good = sorted(getattr(answer, what) for answer in self.answers if answer.status == 200)
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


class _Connection:
    def __init__(self, url: str) -> None:
        self._where = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Raises OSError, EOFError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._where.hostname, self._where.port, limit=1 << 20)
        reader, writer = self._streams
        began = time.perf_counter()
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head[9:12])
            answer = Answer(status, 0.0, 0.0)
            if b"transfer-encoding: chunked" in head:
                await _chunks(reader, answer, began)
            else:
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                answer.first = time.perf_counter() - began
            answer.seconds = time.perf_counter() - began
        except BaseException:
            self.close()
            raise
        if b"connection: close" in head:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader, answer: Answer, began: float) -> None:
    last = began
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
        now = time.perf_counter()
        if last is began:
            answer.first = now - began
        else:
            answer.gaps.append(now - last)
        last = now
    await reader.readexactly(2)


async def closed(url: str, requests: Sequence[bytes], concurrency: int) -> Load:
    """All requests, in their order, over so many connections."""
    waiting, answers, lost = iter(requests), list[Answer](), Counter[str]()

    async def worker() -> None:
        connection = _Connection(url)
        for own in waiting:
            try:
                answers.append(await connection.ask(own))
            except (OSError, EOFError) as error:
                lost[type(error).__name__] += 1
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return Load(answers, time.perf_counter() - began, lost)


async def opened(url: str, requests: Sequence[bytes], rate: float, within: float = 60.0) -> Load:
    """All requests, so many a second; one that has no answer after `within` seconds is lost."""
    idle, answers, lost = list[_Connection](), list[Answer](), Counter[str]()

    async def one(own: bytes) -> None:
        connection = idle.pop() if idle else _Connection(url)
        try:
            async with asyncio.timeout(within):
                answers.append(await connection.ask(own))
            idle.append(connection)
        except (OSError, EOFError) as error:
            lost[type(error).__name__] += 1

    began = time.perf_counter()
    tasks = []
    for number, own in enumerate(requests):
        delay = began + number / rate - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(own)))
    await asyncio.gather(*tasks)
    wall = time.perf_counter() - began
    for connection in idle:
        connection.close()
    return Load(answers, wall, lost)
