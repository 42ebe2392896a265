"""What the tests of families share."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.workers.family_bench import Bench


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    await made.device.close()
