"""How runners live and die, as Redis keeps it, and a block that is left alone for a while."""

import asyncio
import contextlib
from typing import Any

import pytest
from redis import Redis

from orchestrator.batch.blame import Span
from orchestrator.batch.lives import Lives
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store, StoreUnavailable
from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import create, running, until
from tests.orchestrator.parts import Service

DEAD_S = 0.4
LONG_S = 60.0


def lives(store: Store, dead_s: float = DEAD_S) -> Lives:
    return Lives(store, DEAD_S / 4, dead_s)


async def job(service: Service) -> str:
    """A job that is not at its end."""
    return (await create(service, jsonl.file([jsonl.chat("a")]))).id


async def seen(store: Store, job_id: str, what: int = 7) -> tuple[Span, Span]:
    """What is known of the step. The one who looks is a runner that does nothing else and ends."""
    looking = lives(store, LONG_S)
    async with looking.watched(job_id, what) as found:
        pass
    await looking.leave()
    return found


_never_left: list[object] = []
"""What is collected is left."""


async def die_with(store: Store, job_id: str, what: int = 7) -> None:
    """A runner that begins the step, and of which nothing is heard any more."""
    watched = lives(store).watched(job_id, what)
    await watched.__aenter__()
    _never_left.append(watched)
    await asyncio.sleep(2 * DEAD_S)


async def test_a_death_counts_for_the_step_that_the_runner_ran_alone(service: Service, store: Store) -> None:
    own = await job(service)
    await die_with(store, own)
    await die_with(store, own)
    with_it, without = await seen(store, own)
    assert with_it.deaths == 2
    assert with_it.seconds >= 2 * DEAD_S / 4  # as long as each may have lived on
    assert without.deaths == 0
    assert (await lives(store).deaths(own, [6, 7, 8])) == [0, 2, 0]
    assert (await seen(store, own, 8))[0].deaths == 0


async def test_all_other_deaths_count_for_no_step(service: Service, store: Store) -> None:
    own = await job(service)
    await seen(store, own)  # from now on
    for _ in range(3):
        await lives(store).beat()
    await asyncio.sleep(2 * DEAD_S)
    with_it, without = await seen(store, own)
    assert (with_it.deaths, without.deaths) == (0, 3)


async def test_time_counts_for_what_was_done_in_it(service: Service, store: Store) -> None:
    own, runner = await job(service), lives(store, LONG_S)
    await runner.beat()
    async with runner.watched(own, 7) as (with_it, without):
        assert (with_it, without) == (Span(0, 0), Span(0, 0))
        for _ in range(4):
            await asyncio.sleep(DEAD_S / 4)
            await runner.beat()
    for _ in range(8):
        await asyncio.sleep(DEAD_S / 4)
        await runner.beat()
    with_it, without = await seen(store, own)
    assert with_it.deaths == without.deaths == 0
    assert with_it.seconds >= DEAD_S * 0.9
    assert without.seconds >= 2 * DEAD_S * 0.9


async def test_a_runner_that_ends_in_good_order_did_not_die(service: Service, store: Store) -> None:
    own, runner = await job(service), lives(store)
    await seen(store, own)
    await runner.beat()
    await runner.leave()
    await asyncio.sleep(2 * DEAD_S)
    with_it, without = await seen(store, own)
    assert (with_it.deaths, without.deaths) == (0, 0)


async def test_a_redis_that_forgot_all_counts_anew(service: Service, store: Store, redis_server: EmbeddedRedis) -> None:
    own = await job(service)
    for _ in range(2):
        await lives(store).beat()
    await asyncio.sleep(2 * DEAD_S)
    await seen(store, own)
    with contextlib.closing(Redis(unix_socket_path=str(redis_server.socket))) as client:
        client.delete("coe:{batch}:lived")
    await lives(store).beat()
    await asyncio.sleep(2 * DEAD_S)
    assert (await seen(store, own))[1].deaths == 1


async def test_a_block_that_is_to_be_left_alone_is_nobodys_until_then(service: Service) -> None:
    assert service.batches is not None
    jobs = service.batches.jobs
    batch = await create(service, jsonl.file([jsonl.chat("a", "sql 1")]))
    service.engine.token_delay = 10
    async with running(service):
        await service.engine.reaches(1)
    lease = await jobs.take_block("small", 1, [])
    assert lease is not None
    await jobs.give_back(lease.token, delay_s=0.5)
    assert await jobs.take_block("small", 1, []) is None
    again = await until(lambda: jobs.take_block("small", 1, []))
    assert (again.block, again.lost) == (lease.block, 0)
    assert (await jobs.get(batch.id)).status == "in_progress"


async def test_a_lease_whose_answer_did_not_come_is_told_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.batches is not None
    jobs = service.batches.jobs
    batch = await create(service, jsonl.file([jsonl.chat("a", "sql 1")]))
    answers = service.store.run

    async def late(*args: Any) -> Any:
        await answers(*args)
        raise StoreUnavailable("no answer within 1 s")

    monkeypatch.setattr(service.store, "run", late)
    with pytest.raises(StoreUnavailable):
        await jobs.take_job()
    monkeypatch.setattr(service.store, "run", answers)
    task = await jobs.take_job()
    assert task is not None
    assert (task.job, task.kind, task.tries) == (batch.id, "plan", 1)
    assert await jobs.take_job() is None
    await jobs.give_back(task.token)

    service.engine.token_delay = 10
    async with running(service):
        await service.engine.reaches(1)
    monkeypatch.setattr(service.store, "run", late)
    with pytest.raises(StoreUnavailable):
        await jobs.take_block("small", 1, [])
    monkeypatch.setattr(service.store, "run", answers)
    lease = await jobs.take_block("small", 1, [])
    assert lease is not None
    assert lease.job == batch.id
    assert await jobs.take_block("small", 1, []) is None


async def test_a_block_that_redis_kept_from_being_opened_is_opened_soon(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.batches is not None
    jobs, failed = service.batches.jobs, asyncio.Event()
    monkeypatch.setattr(jobs, "lease_s", LONG_S)
    opened = jobs.logs

    async def away(*args: Any) -> Any:
        monkeypatch.setattr(jobs, "logs", opened)
        failed.set()
        raise StoreUnavailable("no answer within 1 s")

    monkeypatch.setattr(jobs, "logs", away)
    batch = await create(service, jsonl.file([jsonl.chat("a", "sql 1")]))
    async with running(service), asyncio.timeout(LONG_S / 3):
        await failed.wait()
        while (await jobs.get(batch.id)).status != "completed":
            await asyncio.sleep(0.05)
