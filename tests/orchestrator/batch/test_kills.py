"""Two hundred kills over one job: runners and Redis, by SIGKILL, at random moments. No line is lost or comes twice."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.batch.blame import LEAST
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl, runner_process
from tests.orchestrator.batch.conftest import create, ended, errors, output, until
from tests.orchestrator.parts import MATH, REMOTE, SQL, Service

KILLS, OF_REDIS = 200, 12
WHILE_PLANNED = 12
"""The first ones, whether the batch is planned by then or not."""
LINES = 1500
RUNNERS = 3
MOST = 25
"""Deaths after which a line that ends whoever runs it has been found out, also on a machine that is slow."""


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis-home") as server:
        yield server


@pytest_asyncio.fixture
async def front(own_redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that takes batches and runs none."""
    store = Store(own_redis.url, timeout=30)
    service = await Service.start(store, batch=tmp_path / "home")
    yield service
    await service.stop()
    await store.close()


async def is_planned(front: Service, batch_id: str) -> bool:
    return (await front.openai.batches.retrieve(batch_id)).status != "validating"


@pytest.mark.timeout(900)
async def test_no_kill_loses_or_doubles_a_line(front: Service, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    chance = random.Random(7)
    experts = (SQL, MATH, REMOTE)
    lines = [jsonl.chat(f"id-{n}", f"please {experts[n % 3]} this is number {n}") for n in range(LINES)]
    batch = await create(front, jsonl.file(lines))

    def runner(token_delay: float = 0.05) -> BaseProcess:
        return runner_process.start(own_redis.url, tmp_path / "home", token_delay)

    runners = [runner() for _ in range(RUNNERS)]
    redis_kills = set(chance.sample(range(10, KILLS), OF_REDIS))
    kills = 0
    try:
        while kills < KILLS:
            if kills == WHILE_PLANNED:  # of a machine that is slow no plan may come while all are killed so often
                await until(lambda: is_planned(front, batch.id), within=200)
            await asyncio.sleep(chance.uniform(0.02, 0.25))
            if kills in redis_kills:
                assert own_redis.pid is not None
                os.kill(own_redis.pid, signal.SIGKILL)
                await asyncio.sleep(chance.uniform(0.05, 0.3))
                await asyncio.to_thread(own_redis.start)
            else:
                own = chance.randrange(RUNNERS)
                assert runners[own].is_alive()
                runners[own].kill()
                await asyncio.to_thread(runners[own].join)
                runners[own] = runner()
            kills += 1
        under_way = await front.openai.batches.retrieve(batch.id)
        assert under_way.status == "in_progress"  # the kills all met a job under way
        runners += [runner(token_delay=0.0) for _ in range(2)]
        done = await ended(front, batch.id, within=400)
    finally:
        for process in runners:
            process.kill()
            process.join()
    assert done.status == "completed", done
    rows = await output(front, done) + await errors(front, done)
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(LINES)]
    assert all(row["response"]["status_code"] == 200 for row in rows)
    assert all(jsonl.said(row).endswith(f"number {n}") for n, row in enumerate(rows))
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (LINES, 0)
    assert done.usage is not None
    assert done.usage.total_tokens == sum(row["response"]["body"]["usage"]["total_tokens"] for row in rows)


@pytest.mark.timeout(300)
async def test_a_line_that_ends_whoever_runs_it_is_found_and_given_up(
    front: Service, own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    lines = [jsonl.chat(f"id-{n}", f"sql {n}") for n in range(12)]
    lines[5] = jsonl.chat("bad", f"sql {runner_process.POISON}")
    batch = await create(front, jsonl.file(lines))
    runner = runner_process.start(own_redis.url, tmp_path / "home", 0.0)

    async def end() -> bool:
        nonlocal runner
        if not runner.is_alive():
            runner.join()
            runner = runner_process.start(own_redis.url, tmp_path / "home", 0.0)
        return (await front.openai.batches.retrieve(batch.id)).status == "completed"

    try:
        await until(end, within=200)
    finally:
        runner.kill()
        runner.join()
    done = await front.openai.batches.retrieve(batch.id)
    assert {row["custom_id"] for row in await output(front, done)} == {f"id-{n}" for n in range(12)} - {"id-5"}
    [row] = await errors(front, done)
    assert (row["custom_id"], row["response"]["status_code"]) == ("bad", 500)
    error = row["response"]["body"]["error"]
    assert error["code"] == "fatal_line"
    found = re.match(r"the service went down (\d+) times while it ran this line alone", error["message"])
    assert found is not None, error
    assert LEAST <= int(found[1]) <= MOST
