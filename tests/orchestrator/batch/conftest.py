"""A service that takes batches, and helpers to run one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_asyncio
from openai.types import Batch

from orchestrator.store import Store
from tests.orchestrator.batch import jsonl
from tests.orchestrator.parts import Service

ENDS = ("completed", "failed", "expired", "cancelled")


@pytest_asyncio.fixture
async def service(store: Store, tmp_path: Path) -> AsyncIterator[Service]:
    """Its runner does not run."""
    service = await Service.start(store, batch=tmp_path / "home")
    yield service
    await service.stop()


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """The service's runner, as long as the block runs."""
    service.run_batches()
    try:
        yield
    finally:
        await service.stop_batches()


async def create(service: Service, content: bytes, endpoint: Any = jsonl.CHAT, **more: Any) -> Batch:
    file = await service.openai.files.create(file=("in.jsonl", content), purpose="batch")
    return await service.openai.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )


async def until(condition: Callable[[], Awaitable[Any]], within: float = 60) -> Any:
    """What it gives, once that is something."""
    async with asyncio.timeout(within):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


async def ended(service: Service, batch_id: str, within: float = 60) -> Batch:
    client = service.openai

    async def end() -> Batch | None:
        batch = await client.batches.retrieve(batch_id)
        return batch if batch.status in ENDS else None

    found: Batch = await until(end, within)
    return found


async def run(service: Service, content: bytes, endpoint: Any = jsonl.CHAT, **more: Any) -> Batch:
    """The batch at its end."""
    async with running(service):
        return await ended(service, (await create(service, content, endpoint, **more)).id)


async def output(service: Service, batch: Batch) -> list[dict[str, Any]]:
    return await _rows(service, batch.output_file_id)


async def errors(service: Service, batch: Batch) -> list[dict[str, Any]]:
    return await _rows(service, batch.error_file_id)


async def _rows(service: Service, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return jsonl.rows((await service.openai.files.content(file_id)).content)
