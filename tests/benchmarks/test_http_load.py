"""The client of the load benchmarks, against a server that does on request what servers do under load."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from benchmarks.http_load import closed, opened, request

SAYS = {
    b"good": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"busy": b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno",
    b"last": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"part": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nA\r\n0123456789\r\n1\r\nc\r\n0\r\n\r\n",
    b"gone": b"",
}


@dataclass
class Site:
    url: str
    connections: int = 0
    heard: list[bytes] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def asks(self, *bodies: bytes) -> list[bytes]:
        return [request(self.url, "/v1/x", "key", body) for body in bodies]


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(4)
                it.heard.append(body)
                await it.free.wait()
                for byte in SAYS[body]:  # however the network cuts it
                    writer.write(bytes([byte]))
                    await writer.drain()
                if body in (b"last", b"gone"):
                    break
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    it = Site(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    it.free.set()
    async with server:
        yield it
        it.free.set()
        await asyncio.sleep(0.01)


async def test_closed_sends_all_over_so_many_connections(site: Site) -> None:
    load = await closed(site.url, site.asks(*[b"good"] * 20, *[b"busy"] * 5), 3)
    assert load.statuses == {200: 20, 429: 5}
    assert (load.lost.total(), load.unsent, site.connections) == (0, 0, 3)


async def test_one_at_a_time_keeps_the_order(site: Site) -> None:
    bodies = (b"good", b"last", b"part", b"busy")
    assert (await closed(site.url, site.asks(*bodies), 1)).statuses == {200: 3, 429: 1}
    assert site.heard == list(bodies)
    assert site.connections == 2


async def test_the_pieces_of_a_stream_are_timed(site: Site) -> None:
    load = await closed(site.url, site.asks(b"part"), 1)
    [answer] = load.answers
    assert len(answer.gaps) == 2
    assert 0 < answer.first <= answer.seconds


async def test_what_the_server_leaves_without_an_answer_is_lost(site: Site) -> None:
    load = await closed(site.url, site.asks(b"good", b"gone", b"good", b"gone"), 2)
    assert load.statuses == {200: 2}
    assert load.lost == {"closed": 2}
    nowhere = await closed("http://127.0.0.1:1", site.asks(b"good"), 1)
    assert nowhere.lost == {"ConnectionRefusedError": 1}


async def test_opened_sends_whether_or_not_there_are_answers(site: Site) -> None:
    site.free.clear()
    load = asyncio.create_task(opened(site.url, site.asks(*[b"good"] * 10), 10_000.0))
    while len(site.heard) < 10:
        await asyncio.sleep(0.005)
    site.free.set()
    assert (await load).statuses == {200: 10}


async def test_what_the_client_itself_cannot_send_is_told_apart_from_what_is_lost(site: Site) -> None:
    site.free.clear()
    load = await opened(site.url, site.asks(*[b"good"] * 10), 10_000.0, within=0.2, connections=4)
    assert (len(load.answers), load.unsent, load.lost) == (0, 6, {"late": 4})
