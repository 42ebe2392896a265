"""The real API on a loopback port, with real Redis and fake engines, for the client to speak to."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import uvicorn

from coe_client import AsyncCoe
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.http.once import Rules
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.parts import LIMITS, Service


class Served(NamedTuple):
    """service: its inside; url: where it is; coe: a client of it, which does not retry."""

    service: Service
    url: str
    coe: AsyncCoe


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(Path(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest_asyncio.fixture
async def served(redis: EmbeddedRedis) -> AsyncIterator[Served]:
    async with serving(redis) as made:
        yield made


@asynccontextmanager
async def serving(redis: EmbeddedRedis, **options: Any) -> AsyncIterator[Served]:
    """options: of Service.start."""
    store = Store(redis.url, timeout=30)
    options = {
        "limits": replace(LIMITS, keep_alive_s=0.05),
        "once": Rules(linger_s=0.05),
        "encoder": HashEncoder(16),
        **options,
    }
    service = await Service.start(store, **options)
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_config=None, lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with AsyncCoe(url, service.key, max_retries=0, timeout=30) as coe:
            yield Served(service, url, coe)
    finally:
        server.should_exit = True
        await running
        await service.stop()
        await store.close()


@contextmanager
def serving_in_a_thread(redis: EmbeddedRedis, **options: Any) -> Iterator[Served]:
    """The same for tests that block. Of what is given, only the URL and the key are for other threads."""
    made, loop, left = Future[Served](), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serving(redis, **options) as one:
            made.set_result(one)
            await left.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            if made.done():
                raise
            made.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield made.result(60)
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(left.set)
        thread.join()
