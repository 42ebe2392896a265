"""The real API on a loopback port, with real Redis and fake engines, for the client to speak to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
import uvicorn

from coe_client import AsyncCoe
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.http.once import Rules
from orchestrator.store import Store
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
    store = Store(redis.url, timeout=30)
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.05), once=Rules(linger_s=0.05))
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with AsyncCoe(url, service.key, max_retries=0, timeout=30) as coe:
        yield Served(service, url, coe)
    server.should_exit = True
    await serving
    await service.stop()
    await store.close()
