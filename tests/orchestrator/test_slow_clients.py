"""Clients that send slowly, send nothing, or do not read: none of them keeps what it holds."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.http.connection import LINGER_BYTES
from orchestrator.http.guards import Bounds
from orchestrator.store import Store
from tests.orchestrator.parts import SQL, Service
from tests.orchestrator.served import Served, served, sized

GET = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
FAST = Bounds(head_s=0.3, body_s=0.3, stall_s=0.3)


@pytest_asyncio.fixture
async def impatient(store: Store) -> AsyncIterator[Served]:
    """With short times, so that a test need not wait."""
    async with served(await Service.start(store, bounds=FAST), FAST) as it:
        yield it


async def test_a_connection_on_which_nothing_is_asked_is_closed(impatient: Served) -> None:
    async with impatient.wire() as wire:
        assert await wire.ended() == b""


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["first", "later"])
async def test_a_head_that_drips_is_cut_off(impatient: Served, before: bytes) -> None:
    async with impatient.wire() as wire:
        if before:
            await wire.send(before)
            assert (await wire.answer()).status == 200

        async def drip() -> None:
            await wire.send(GET + b"a: ")
            while True:
                await wire.send(b"b")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = await wire.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        dripping.cancel()
    assert await impatient.lives()


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 1000\r\n\r\n{",
        b"transfer-encoding: chunked\r\n\r\n3e8\r\n{",
        b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ],
)
async def test_a_body_that_does_not_come_is_not_waited_for(impatient: Served, framing: bytes) -> None:
    async with impatient.wire() as wire:
        await wire.send(impatient.head + framing)
        answer = await wire.answer()
        if answer.status == 100:
            answer = await wire.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        await wire.ended()
    assert impatient.service.engine.started == 0
    assert await impatient.lives()


async def test_a_body_that_nobody_reads_does_not_keep_its_connection(impatient: Served) -> None:
    async with impatient.wire() as wire:
        await wire.send(b"POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        assert (await wire.answer()).status == 404

        async def flood() -> None:
            while True:
                await wire.send(b"x" * 1000)
                await asyncio.sleep(0.01)

        flooding = asyncio.create_task(flood())
        assert await wire.ended() == b""
        flooding.cancel()


async def test_who_reads_nothing_of_a_long_answer_loses_it_and_the_engine_is_free(impatient: Served) -> None:
    engine = impatient.service.engine
    engine.answer = lambda call: ("x" * 10**6 + " ") * 40
    buffer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    buffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    buffer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(buffer, ("127.0.0.1", impatient.port))
    body = json.dumps({"model": SQL, "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    await asyncio.get_running_loop().sock_sendall(buffer, impatient.head + sized(body))
    await engine.reaches(running=1)
    await engine.reaches(running=0)
    assert engine.aborted == 1
    buffer.close()
    assert await impatient.lives()


async def test_an_unwanted_body_is_thrown_away_only_up_to_a_bound(impatient: Served) -> None:
    """At the speed of loopback two seconds are gigabytes."""
    sent = 0
    async with impatient.wire() as wire:
        await wire.send(b"POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000000\r\n\r\n")
        assert (await wire.answer()).status == 404
        while await wire.send(b"x" * 100_000):
            sent += 100_000
            await asyncio.sleep(0)
    assert LINGER_BYTES / 2 < sent < 100 * LINGER_BYTES
