"""What a family's workers have counted in all never falls, whichever of them tell."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily

from orchestrator.metrics import Metrics
from tests.workers.channel_parts import bench, call
from workers.base import WorkerStats
from workers.channel.together import COUNTED, MOST_GONE, Totals, together


def stats(swaps: int = 0, **loads: int) -> WorkerStats:
    return WorkerStats("f", {}, swaps=swaps, loads=loads)


def shown(totals: Totals) -> tuple[int, dict[str, int]]:
    own = totals.put_into(stats())
    return own.swaps, own.loads


def test_the_total_is_the_sum_of_what_workers_tell() -> None:
    totals = Totals()
    totals.learn("one", stats(3, disk=2))
    totals.learn("two", stats(4, disk=1, host=5))
    totals.learn("one", stats(5, disk=3))
    assert shown(totals) == (9, {"disk": 4, "host": 5})


def test_the_part_of_a_worker_that_is_gone_stays() -> None:
    totals = Totals()
    totals.learn("one", stats(3))
    totals.learn("two", stats(4))
    totals.forget({"two"})
    totals.learn("two", stats(6))
    assert shown(totals) == (9, {})


def test_a_count_that_fell_began_anew() -> None:
    totals = Totals()
    totals.learn("one", stats(10, disk=10))
    totals.learn("one", stats(2))
    totals.learn("one", stats(3, disk=1))
    assert shown(totals) == (13, {"disk": 11})


def test_a_worker_that_was_cut_off_is_not_counted_twice() -> None:
    totals = Totals()
    totals.learn("one", stats(10))
    totals.forget(set())
    totals.learn("one", stats(11))
    assert shown(totals) == (11, {})


def test_of_workers_that_are_gone_only_the_last_are_remembered_and_of_those_that_are_there_all() -> None:
    totals = Totals()
    for number in range(3 * MOST_GONE):
        totals.learn(number, stats(1))
    there = set(range(2 * MOST_GONE))
    totals.forget(there)
    assert totals._last.keys() == {*range(3 * MOST_GONE)}
    totals.learn("new", stats(1))
    totals.forget({"new"})
    assert totals._last.keys() == {*range(2 * MOST_GONE, 3 * MOST_GONE), "new"}
    assert shown(totals) == (3 * MOST_GONE + 1, {})


def test_what_is_no_count_is_left_as_it_is() -> None:
    totals = Totals()
    totals.learn("one", WorkerStats("f", {"a": "device"}, running=3, swaps=2, tier_bytes={"device": 5}))
    now = WorkerStats("f", {"a": "host"}, running=1, tier_bytes={"device": 4}, workers=2)
    assert totals.put_into(now) == replace(now, swaps=2)


def test_every_counter_that_is_shown_is_one_that_never_falls() -> None:
    """Of what workers tell, each field by itself: is it in a counter of the metrics?"""
    counters = set()
    for own in fields(WorkerStats):
        plain = getattr(WorkerStats("f", {}), own.name)
        if own.name in ("family", "tiers") or not isinstance(plain, int | float | dict):
            continue
        told: Any = {own.name: {"x": 41} if isinstance(plain, dict) else 41}
        metrics = Metrics()
        metrics.render({"f": replace(WorkerStats("f", {}), **told)})
        shown = [each for each in metrics._workers.collect() if isinstance(each, CounterMetricFamily)]
        if any(sample.value == 41 for each in shown for sample in each.samples):
            counters.add(own.name)
    assert counters == {*COUNTED} - {"busy_seconds"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["count", "tell", "engine anew", "worker anew", "look"]), st.integers(0, 3), st.integers(0, 9)
    )
)


@given(STEPS)
def test_totals_never_fall_and_come_to_all_that_ever_was_counted(steps: list[tuple[str, int, int]]) -> None:
    """Four places for workers. "count": one counts, and does not tell yet. An engine or a worker that begins anew tells
    before and after. "look": who is there is looked up, and one of them is overlooked."""
    totals, counted, before = Totals(), 0, 0
    names, counts = [0, 1, 2, 3], [0, 0, 0, 0]
    for what, place, amount in steps:
        if what == "count":
            counts[place] += amount
            counted += amount
        elif what == "look":
            totals.forget({name for name in names if name != names[place]})
        else:
            totals.learn(names[place], stats(counts[place], disk=counts[place]))
            if what != "tell":
                counts[place] = 0
                names[place] += 4 if what == "worker anew" else 0
                totals.learn(names[place], stats())
        swaps, loads = shown(totals)
        assert before <= swaps <= counted
        assert loads.get("disk", 0) == swaps
        before = swaps
    for name, count in zip(names, counts, strict=True):
        totals.learn(name, stats(count, disk=count))
    assert shown(totals)[0] == counted


async def test_links_keep_the_totals_of_workers_that_went() -> None:
    async with bench(2) as own:
        for engine in own.engines:
            engine._swaps = 5
        both = await own.links.stats()
        assert own.links.totals["f"].put_into(together([each["f"] for each in both])).swaps == 10

        own.listed.pop()
        await own.servers[1].close(0)
        await own.connected(1)
        async for _ in own.links.generate(call()):
            pass
        [left] = await own.links.stats()
        now = own.links.totals["f"].put_into(left["f"])
        assert left["f"].swaps == own.engines[0]._swaps
        assert now.swaps == 5 + own.engines[0]._swaps
