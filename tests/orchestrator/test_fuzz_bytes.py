"""Bytes by chance over real sockets: whatever comes is answered or hung up on, and the next client is served.

COE_FUZZ_CASES and COE_FUZZ_SEED as for test_fuzz.py.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import pytest
import structlog
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.http.guards import Bounds
from orchestrator.store import Store
from tests.orchestrator.parts import Service
from tests.orchestrator.served import Served, served
from tests.orchestrator.test_fuzz import CASES, SEED

BOUNDS = Bounds(head_s=0.2, body_s=0.2, idle_s=0)  # so that no case waits long
PARTS = (
    b"GET /health/live HTTP/1.1\r\n", b"POST /v1/chat/completions HTTP/1.1\r\n", b"POST /v1/route HTTP/1.0\r\n",
    b"host: x\r\n", b"content-length: 2\r\n", b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n", b"x: y\r\n",
    b"\r\n", b"{}", b"2\r\n{}\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"\n", b"\r", b" ", b"\x00", b"\xff", b": ",
)  # fmt: skip
good = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
streams = st.lists(
    st.one_of(st.sampled_from(PARTS), st.sampled_from(PARTS), st.binary(max_size=6), st.just(good)), max_size=14
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def target(loop: asyncio.Runner, redis_server: EmbeddedRedis) -> Iterator[Served]:
    stack = AsyncExitStack()

    async def start() -> Served:
        store = Store(redis_server.url, timeout=30)
        stack.push_async_callback(store.close)
        return await stack.enter_async_context(served(await Service.start(store, bounds=BOUNDS), BOUNDS))

    yield loop.run(start())
    loop.run(stack.aclose())


async def still_serves(target: Served) -> bool:
    """On a machine that stands still for longer than BOUNDS.head_s a good client is cut off too: it tries again."""
    for _ in range(5):
        with suppress(ConnectionError, EOFError):
            return await target.lives()
    return False


@seed(SEED)
@settings(max_examples=CASES // 4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(parts=streams, pieces=st.integers(1, 4))
@pytest.mark.timeout(0)  # by `Wire.ended` for each case
def test_no_bytes_are_a_fault_of_the_service(
    target: Served, loop: asyncio.Runner, parts: list[bytes], pieces: int
) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def attack() -> bytes:
        data = b"".join(parts)
        size = len(data) // pieces + 1
        async with target.wire() as wire:
            for at in range(0, len(data), size):
                await wire.send(data[at : at + size])
                await asyncio.sleep(0)
            return await wire.ended()

    answers = re.findall(rb"HTTP/1\.1 (\d{3}) ", loop.run(attack()))
    assert all(int(status) < 500 for status in answers), answers
    assert loop.run(still_serves(target))
