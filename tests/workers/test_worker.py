"""A worker keeps its engine alive."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from experts.spec import ExpertSpec
from workers.base import ChatCall, Event, Failure, Finish, Roster
from workers.fake_engine import FakeEngine
from workers.worker import Worker

SPEC = ExpertSpec(name="a", source="nowhere", family="f")
CALL = ChatCall("r", "a", ({"role": "user", "content": "one two three"},))


class Fleet:
    """Makes engines; the first `broken` of them do not start."""

    def __init__(self, broken: int = 0) -> None:
        self.broken = broken
        self.made: list[FakeEngine] = []

    def __call__(self, roster: Roster) -> FakeEngine:
        engine = FakeEngine("f", roster.experts, token_delay=0.001)
        self.made.append(engine)
        if len(self.made) <= self.broken:

            async def no_start() -> None:
                raise RuntimeError("no weights here")

            engine.start = no_start  # type: ignore[method-assign]
        return engine


async def last_of(events: AsyncGenerator[Event, None]) -> Event:
    async with aclosing(events) as stream:
        return [event async for event in stream][-1]


async def until_not(worker: Worker, code: str) -> Event:
    """Asks until the answer is not the Failure `code` any more."""
    async with asyncio.timeout(10):
        while True:
            last = await last_of(worker.generate(CALL))
            if not (isinstance(last, Failure) and last.code == code):
                return last
            await asyncio.sleep(0.005)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def test_requests_before_the_engine_is_up_are_told_to_come_again(fleet: Fleet) -> None:
    worker = Worker("f", Roster((SPEC,)), fleet, poll=0.01)
    first = await last_of(worker.generate(CALL))
    assert isinstance(first, Failure)
    assert first.code == "engine_starting"
    assert (await worker.stats()).tiers == {"a": "starting"}
    worker.launch()
    assert isinstance(await until_not(worker, "engine_starting"), Finish)
    await worker.close()


async def test_a_dead_engine_ends_its_requests_and_is_replaced(fleet: Fleet) -> None:
    worker = Worker("f", Roster((SPEC,)), fleet, poll=0.01)
    worker.launch()
    await until_not(worker, "engine_starting")
    running = asyncio.create_task(last_of(worker.generate(CALL)))
    await fleet.made[0].reaches(1)
    fleet.made[0].die()
    last = await running
    assert isinstance(last, Failure)
    assert last.code == "engine_died"
    assert isinstance(await until_not(worker, "engine_starting"), Finish)
    assert len(fleet.made) == 2
    assert (await worker.stats()).restarts == 1
    worker.check_health()
    await worker.close()


async def test_a_dead_engine_is_replaced_even_if_it_does_not_end_as_it_should(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: FakeEngine) -> None:
        raise OSError("no such process")

    worker = Worker("f", Roster((SPEC,)), fleet, poll=0.01)
    worker.launch()
    await until_not(worker, "engine_starting")
    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "close", broken)
        fleet.made[0].die()
        async with asyncio.timeout(10):
            while len(fleet.made) < 2:
                await asyncio.sleep(0.005)
    assert isinstance(await until_not(worker, "engine_starting"), Finish)
    await worker.close()


async def test_an_engine_that_does_not_start_is_tried_again_and_told(fleet: Fleet) -> None:
    fleet.broken = 2
    worker = Worker("f", Roster((SPEC,)), fleet, poll=0.01, retry=0.05, max_failures=2)
    worker.launch()
    async with asyncio.timeout(10):
        while not (await worker.stats()).tiers["a"].startswith("failed"):
            await asyncio.sleep(0.005)
    refused = await last_of(worker.generate(CALL))
    assert isinstance(refused, Failure)
    assert refused.code == "expert_unavailable"
    assert "no weights here" in refused.message
    assert isinstance(await until_not(worker, "expert_unavailable"), Finish)
    assert len(fleet.made) == 3
    worker.check_health()
    await worker.close()


async def test_a_worker_whose_engine_never_starts_reports_itself_unhealthy(fleet: Fleet) -> None:
    fleet.broken = 99
    worker = Worker("f", Roster((SPEC,)), fleet, poll=0.01, retry=0.001, max_failures=3)
    worker.launch()
    async with asyncio.timeout(10):
        while len(fleet.made) < 5:
            await asyncio.sleep(0.005)
    with pytest.raises(RuntimeError, match="no weights here"):
        worker.check_health()
    await worker.close()
