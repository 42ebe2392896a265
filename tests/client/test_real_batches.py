"""Files and batches of the client against the real API, with its runner."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from coe_client import AsyncCoe, BadRequest, Batch, BatchFailed, Coe, Conflict, NotFound
from coe_client.testing import MockService
from orchestrator.embedded_redis import EmbeddedRedis
from tests.client.conftest import Served, serving
from tests.client.test_real_api import shape
from tests.orchestrator.batch.conftest import running
from tests.orchestrator.parts import BATCH, MATH, SQL

QUICK = BATCH.model_copy(update={"lease_s": 0.5})
"""A runner looks three times in a lease whether its batches are cancelled."""


@pytest_asyncio.fixture
async def batching(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[Served]:
    with Redis(unix_socket_path=str(redis.socket)) as client:
        client.flushall()  # no job of another test, whose files are elsewhere
    async with serving(redis, batch=tmp_path / "home", batch_config=QUICK) as served, running(served.service):
        yield served


async def test_run_answers_everything_and_leaves_nothing(batching: Served) -> None:
    seen: list[Batch] = []
    requests = [f"{(SQL, MATH)[n % 2]} {n}" for n in range(40)]
    results = await batching.coe.batches.run(requests, poll=0.02, on_progress=seen.append)
    assert [own.answer.text for own in results] == [f"{one.split()[0]} heard: {one}" for one in requests]
    assert {own.answer.route.expert for own in results if own.answer.route} == {SQL, MATH}
    assert seen[-1].status == "completed"
    assert seen[-1].plan is not None
    assert (seen[-1].plan.distinct_experts, seen[-1].plan.loads) == (2, 2)
    assert not seen[-1].model_extra or set(seen[-1].model_extra) <= {
        "object", "completion_window", "in_progress_at", "finalizing_at",
    }  # fmt: skip
    assert await batching.coe.files.list() == ()


async def test_the_blocking_client_does_the_same(batching: Served, tmp_path: Path) -> None:
    def ask() -> list[str]:
        with Coe(batching.url, batching.service.key) as coe:
            file = coe.files.upload(["sql 1", "sql 2"])
            batch = coe.batches.wait(coe.batches.create(file), poll=0.02)
            assert batch.output_file_id is not None
            coe.files.download(batch.output_file_id, tmp_path / "out.jsonl")
            assert (tmp_path / "out.jsonl").read_bytes() == coe.files.content(batch.output_file_id)
            return [own.answer.text for own in coe.batches.results(batch)]

    assert await asyncio.to_thread(ask) == ["sql heard: sql 1", "sql heard: sql 2"]


async def test_lines_without_an_answer_stand_in_their_place(batching: Served) -> None:
    lines: list[Any] = [
        "sql a",
        {"messages": "x", "model": "sqll"},
        "sql b",
        {"messages": "word " * 60, "model": SQL},
        {"custom_id": "d", "body": {}},
    ]
    results = await batching.coe.batches.run(lines, poll=0.02)
    assert [own.custom_id for own in results] == ["0", "1", "2", "3", "d"]
    assert [own.error is None for own in results] == [True, False, True, False, False]
    assert isinstance(results[1].error, NotFound)
    assert results[1].line == 2
    assert isinstance(results[3].error, BadRequest)
    assert "context" in results[3].error.message
    assert isinstance(results[4].error, BadRequest)


async def test_the_other_endpoints(batching: Served) -> None:
    run = batching.coe.batches.run
    [completion] = await run([{"prompt": "one", "model": SQL}], endpoint="/v1/completions", poll=0.02)
    [response] = await run(["some math"], endpoint="/v1/responses", poll=0.02)
    [vectors] = await run([["a", "b"]], endpoint="/v1/embeddings", poll=0.02)
    assert (completion.answer.text, response.answer.text) == ("sql heard: one", "math heard: some math")
    assert len(vectors.embeddings.vectors) == 2


async def test_a_batch_is_planned_only(batching: Served) -> None:
    coe = batching.coe
    batch = await coe.batches.wait(await coe.batches.create(await coe.files.upload(["sql"]), dry_run=True), poll=0.02)
    assert batch.plan is not None
    assert [(own.expert, own.steps, own.done) for own in batch.plan.groups] == [(SQL, 1, 0)]
    assert not batching.service.engine.calls


async def test_a_batch_that_cannot_be_run_says_why(batching: Served) -> None:
    coe = batching.coe
    batch = await coe.batches.wait(await coe.batches.create(await coe.files.upload(b"\n")), poll=0.02)
    with pytest.raises(BatchFailed, match="the file has no lines"):
        _ = [own async for own in coe.batches.results(batch)]


async def test_cancelling_run_ends_the_batch_in_the_service(batching: Served) -> None:
    engine = batching.service.engine
    engine.token_delay = 600
    run = asyncio.create_task(batching.coe.batches.run(["sql a", "sql b"], poll=0.02))
    await engine.reaches(running=2)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    await engine.reaches(running=0)
    [batch] = await batching.coe.batches.list()
    assert batch.status in ("cancelling", "cancelled")


async def test_lines_of_a_cancelled_batch_say_so(batching: Served) -> None:
    coe, engine = batching.coe, batching.service.engine
    engine.token_delay = 600
    batch = await coe.batches.create(await coe.files.upload(["sql a", "sql b"]))
    await engine.reaches(running=2)
    await coe.batches.cancel(batch)
    batch = await coe.batches.wait(batch, poll=0.02)
    assert [type(own.error) async for own in coe.batches.results(batch)] == [Conflict, Conflict]


async def test_a_create_whose_answer_was_lost_makes_one_batch(batching: Served) -> None:
    file = await batching.coe.files.upload(["sql"])
    async with AsyncCoe(batching.url, batching.service.key) as other:
        first = await batching.coe.batches.create(file, idempotency_key="once")
        assert (await other.batches.create(file, idempotency_key="once")).id == first.id
    assert [own.id for own in await batching.coe.batches.list()] == [first.id]


async def test_the_mock_makes_up_no_field(batching: Served) -> None:
    """What a user's tests see, the service sends too."""

    async def sent(coe: AsyncCoe) -> list[set[str]]:
        file = await coe.files.upload(["sql a"])
        batch = await coe.batches.wait(await coe.batches.create(file), poll=0.02)
        [result] = [own async for own in coe.batches.results(batch)]
        raw = [file.model_dump(exclude_none=True), batch.model_dump(exclude={"coe"}), dict(result.raw)]
        return [set(shape(one)) for one in raw]

    mock = MockService()
    mock.answer("sql heard: sql a", expert=SQL)
    async with mock.async_client() as coe:
        mocked = await sent(coe)
    for made_up, came in zip(mocked, await sent(batching.coe), strict=True):
        assert made_up <= came
