"""Parts that the tests of the service share: a real embedded Redis, emptied for each test, and stores on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from redis import Redis
from structlog.typing import Processor

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store
from tests.orchestrator.parts import Service


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """structlog's own default draws tracebacks with all local variables, which takes seconds."""
    plain: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=plain, logger_factory=structlog.PrintLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test puts its coe.yaml."""
    return tmp_path / "coe.yaml"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(Path(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    with Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.flushall()
        client.connection_pool.disconnect()
    return redis_server.url


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    store = Store(redis_url, timeout=30)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store)
    yield service
    await service.stop()
