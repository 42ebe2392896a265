"""Overload, on a clock that jumps: who runs, who waits, who is refused, and that nobody is left without an answer."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from orchestrator.access.admission import Admission, loop_time
from orchestrator.access.grant import Grant
from orchestrator.errors import Overloaded
from orchestrator.events import Answered, Ask
from orchestrator.metrics import Metrics
from orchestrator.store import Store
from tests.orchestrator.parts import SQL, Service
from tests.orchestrator.virtual_loop import run


class Site:
    """An admission and what became of the requests to it."""

    def __init__(self, places: int, waiting: int, queue_s: float = 30.0) -> None:
        self.metrics = Metrics()
        self.admission = Admission(places, waiting, queue_s, self.metrics)
        self.ended: list[tuple[str, float]] = []  # caller, or why it was refused; when
        self.retry_after: list[int] = []

    async def request(self, caller: str, seconds: float, weight: float = 1.0, within: float = 600.0) -> None:
        try:
            async with self.admission.place(caller, weight, within) as place:
                await asyncio.sleep(seconds)
                place.answered = True
            self.ended.append((caller, loop_time()))
        except Overloaded as error:
            self.retry_after.append(error.retry_after)
            self.ended.append((f"{caller}: {error}", loop_time()))

    def refused(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("coe_refusals_total", {"reason": reason}) or 0.0

    @property
    def who(self) -> list[str]:
        return [who.partition(":")[0] if ": " not in who else who for who, _ in self.ended]


def test_requests_wait_for_a_place_and_run_in_turn() -> None:
    async def main() -> None:
        site = Site(places=2, waiting=10)
        await asyncio.gather(*(site.request("a", 1.0) for _ in range(6)))
        assert [at for _, at in site.ended] == [1, 1, 2, 2, 3, 3]
        assert site.metrics.registry.get_sample_value("coe_requests_in_flight") == 0
        assert site.metrics.registry.get_sample_value("coe_requests_waiting") == 0

    run(main())


def test_more_than_can_wait_are_refused_with_an_honest_time() -> None:
    async def main() -> None:
        site = Site(places=2, waiting=4)
        await asyncio.gather(*(site.request("a", 5.0) for _ in range(6)))
        late = [asyncio.create_task(site.request("a", 5.0)) for _ in range(7)]
        await asyncio.gather(*late)
        assert site.refused("queue_full") == 1
        assert site.retry_after == [13]  # five would wait before it, of which two go every 5 s
        assert "2 requests are running and 4 wait, which is the limit; try again in 13 s" in str(site.ended)

    run(main())


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    async def main() -> None:
        site = Site(places=1, waiting=100, queue_s=25.0)
        await site.request("a", 10.0)
        began = loop_time()
        await asyncio.gather(*(site.request("a", 10.0) for _ in range(5)))
        refused = [at for who, at in site.ended if ":" in who]
        assert refused == [began, began]  # the 3rd and 4th that would wait, for 30 s and, had the 3rd stayed, more
        assert site.retry_after == [5, 5]
        assert len(site.ended) == 6

    run(main())


def test_who_would_be_late_is_refused_at_once() -> None:
    async def main() -> None:
        site = Site(places=1, waiting=100)
        await site.request("a", 10.0)
        await asyncio.gather(site.request("a", 10.0), site.request("b", 10.0, within=15.0))
        assert site.refused("deadline") == 1
        assert site.retry_after == [5]

    run(main())


def test_nobody_waits_longer_than_said_even_if_nothing_is_known() -> None:
    async def main() -> None:
        site = Site(places=1, waiting=100, queue_s=20.0)
        await asyncio.gather(*(site.request("a", 300.0) for _ in range(3)))
        assert [at for who, at in site.ended if ":" in who] == [20, 20]
        assert site.refused("queue_time") == 2

    run(main())


def test_a_full_queue_makes_room_for_a_key_that_has_less() -> None:
    async def main() -> None:
        site = Site(places=2, waiting=4)
        flood = [asyncio.create_task(site.request("flood", 1.0)) for _ in range(6)]
        await asyncio.sleep(0)
        await asyncio.gather(site.request("small", 1.0), *flood)
        assert site.refused("fair_share") == 1
        assert Counter(who.partition(":")[0] for who, _ in site.ended) == Counter(flood=6, small=1)
        assert ("small", 2.0) in site.ended

    run(main())


def test_a_client_that_leaves_while_it_waits_leaves_no_hole() -> None:
    async def main() -> None:
        site = Site(places=1, waiting=10)
        first, second, third = (asyncio.create_task(site.request("a", 1.0)) for _ in range(3))
        await asyncio.sleep(0.5)
        second.cancel()
        await asyncio.gather(first, third)
        assert [at for _, at in site.ended] == [1, 2]
        await site.request("a", 1.0)  # the place is free

    run(main())


@pytest.mark.parametrize("moment", range(4))
def test_a_client_that_leaves_in_the_moment_of_its_turn_gives_the_place_on(moment: int) -> None:
    async def main() -> None:
        site = Site(places=1, waiting=10)
        gate = asyncio.Event()

        async def hold() -> None:
            async with site.admission.place("a", 1.0, 600):
                await gate.wait()

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0)
        leaving = asyncio.create_task(site.request("b", 1.0))
        last = asyncio.create_task(site.request("c", 1.0))
        await asyncio.sleep(0)
        gate.set()
        for _ in range(moment):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(holder, last)
        assert site.ended[-1][0] == "c"
        assert site.admission._fair.running.total() == 0

    run(main())


# The whole service, in process


async def offered(service: Service, rate: float, seconds: float, caller: str = "", **fields: Any) -> Counter[str]:
    """Sends so many requests per second without waiting for answers; outcome -> requests, when all have one.

    "answered" are those whose answer came while the load was on.
    """
    outcomes: Counter[str] = Counter()
    end = loop_time() + seconds

    async def one(number: int) -> None:
        messages = ({"role": "user", "content": "one two three"},)
        ask = Ask(f"{caller}{number}", SQL, messages, "", time.time() + 600, caller=caller, **fields)
        try:
            last = [event async for event in service.pipeline.run(ask)][-1]
            in_time = "answered" if loop_time() <= end else "answered later"
            outcomes[in_time if isinstance(last, Answered) else "failed"] += 1
        except Overloaded:
            outcomes["refused"] += 1

    tasks = []
    for number in range(int(rate * seconds)):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)
    assert outcomes.total() == int(rate * seconds)
    return outcomes


PLACES, WORDS, WORD_S = 8, 5, 0.1  # "sql heard: one two three"
CAPACITY = PLACES / (WORDS * WORD_S)
"""Answers per second."""


async def loaded() -> Service:
    # Nothing of this is stored: there is no Redis on a clock that jumps.
    service = await Service.start(Store("redis://127.0.0.1:1"), concurrent=PLACES, waiting=32, key="none")
    service.engine.token_delay = WORD_S
    return service


def test_at_ten_times_capacity_the_service_answers_as_much_as_it_can_and_everybody_gets_an_answer() -> None:
    async def main() -> Counter[str]:
        service = await loaded()
        try:
            return await offered(service, 10 * CAPACITY, 30)
        finally:
            await service.stop()
            await service.store.close()

    outcomes = run(main())
    assert outcomes["answered"] >= 0.9 * CAPACITY * 30
    assert outcomes["failed"] == 0
    assert outcomes["refused"] > 0


def test_a_key_that_floods_does_not_take_the_share_of_others() -> None:
    async def main() -> tuple[Counter[str], Counter[str]]:
        service = await loaded()
        try:
            flood = offered(service, 10 * CAPACITY, 30, "flood")
            small = offered(service, 0.4 * CAPACITY, 30, "small")
            both = await asyncio.gather(flood, small)
            return both[0], both[1]
        finally:
            await service.stop()
            await service.store.close()

    flood, small = run(main())
    assert small["answered"] + small["answered later"] == int(0.4 * CAPACITY * 30)
    assert flood["answered"] + small["answered"] >= 0.9 * CAPACITY * 30


def test_interactive_keys_get_more_than_batch_keys_when_both_want_all() -> None:
    async def main() -> tuple[Counter[str], Counter[str]]:
        service = await loaded()
        try:
            both = await asyncio.gather(
                offered(service, 5 * CAPACITY, 30, "batch", grant=Grant(priority="batch")),
                offered(service, 5 * CAPACITY, 30, "chat", grant=Grant(priority="interactive")),
            )
            return both[0], both[1]
        finally:
            await service.stop()
            await service.store.close()

    batch, interactive = run(main())
    assert interactive["answered"] > 5 * batch["answered"] > 0


async def test_a_request_that_its_family_cannot_begin_in_time_is_refused_before_it_begins(store: Store) -> None:
    service = await Service.start(store, concurrent=100, batches={"small": 2})
    try:
        lane = service.pipeline._calls.lane(SQL)
        lane.held_s = 100.0
        for _ in range(2):
            lane.begin(loop_time())
        ask = Ask("req-1", SQL, ({"role": "user", "content": "hi"},), "hi", time.time() + 600)
        with pytest.raises(
            Overloaded, match="the request to 'sql' would wait about 50 s, more than 30 s; try again in 20 s"
        ):
            _ = [event async for event in service.pipeline.run(ask)]
        assert len(service.engine.calls) == 0
    finally:
        await service.stop()
