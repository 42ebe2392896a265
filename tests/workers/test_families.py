"""Families on one device take turns: who is awake, and who waits."""

import asyncio
import random
from typing import Any

import pytest

from tests.workers.family_bench import MAX_WAIT_S, WAKE_S, Bench, answer
from workers.base import Event
from workers.swap_policy import SwapPolicy


async def test_the_first_family_is_woken_at_once_the_others_when_they_are_asked(bench: Bench) -> None:
    bench.launch()
    assert await bench.tiers() == {"a1": "starting", "b1": "disk", "c1": "disk"}
    await bench.logged("start a")
    assert await bench.ask("b") == answer("b")
    assert bench.log == ["start a", "sleep a", "start b", "< b", "> b"]
    assert await bench.tiers() == {"a1": "host", "b1": "device", "c1": "disk"}


async def test_a_family_that_sleeps_is_woken_not_started(bench: Bench) -> None:
    bench.launch()
    for text in ("a", "b", "a"):
        assert await bench.ask(text) == answer(text)
    assert [line for line in bench.log if line[0] not in "<>"] == ["start a", "sleep a", "start b", "sleep b", "wake a"]
    stats = (await bench.device.stats())["a"]
    assert (stats.wakes, stats.wake_seconds) == (2, 2 * WAKE_S)
    assert [(e.kind, e.image, e.source, e.target) for e in stats.events] == [
        ("woke", "a", "disk", "device"), ("swap", "a1", "device", "device"), ("slept", "a", "device", "host"),
        ("woke", "a", "host", "device"),
    ]  # fmt: skip


async def test_a_burst_costs_one_wake_for_each_family(bench: Bench) -> None:
    bench.launch()
    texts = ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2", "a-3", "b-3", "c-3"]
    answers = await asyncio.gather(*(bench.ask(text) for text in texts))
    assert answers == [answer(text) for text in texts]
    turns = [line for line in bench.log if line[0] not in "<>"]
    assert turns == ["start a", "sleep a", "start b", "sleep b", "start c"]


async def test_families_that_fit_the_memory_together_answer_at_the_same_time(bench: Bench) -> None:
    bench.launch(memory=2)
    a = await bench.hold("a")
    assert await bench.ask("b-0") == answer("b-0")
    b = await bench.hold("b")
    assert (bench.engines["a"][0].running, bench.engines["b"][0].running) == (1, 1)
    assert await bench.tiers() == {"a1": "device", "b1": "device", "c1": "disk"}
    bench.release("a")
    bench.release("b")
    assert (await a, await b) == (answer("a"), answer("b"))
    assert "sleep" not in " ".join(bench.log)


async def test_what_does_not_fit_the_memory_makes_only_as_many_sleep_as_it_needs(bench: Bench) -> None:
    bench.launch(memory=5, sizes=(2, 2, 3))
    for text in ("a", "b", "c"):
        assert await bench.ask(text) == answer(text)
    assert [line for line in bench.log if line.startswith("sleep")] in (["sleep a"], ["sleep b"])
    assert sorted((await bench.tiers()).values()) == ["device", "device", "host"]


async def test_requests_under_way_complete_before_their_family_sleeps(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S / 2
    bench.release("a")
    assert (await a, await b) == (answer("a"), answer("b"))
    assert bench.log == ["start a", "< a", "> a", "sleep a", "start b", "< b", "> b"]


async def test_a_family_whose_turn_is_over_starts_nothing_younger_than_what_waits(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S / 2  # its quantum is over
    later = await bench.wait("a-2")
    bench.release("a")
    assert (await a, await b, await later) == (answer("a-1"), answer("b"), answer("a-2"))
    assert bench.log == [
        "start a", "< a-1", "> a-1", "sleep a", "start b", "< b", "> b", "sleep b", "wake a", "< a-2", "> a-2",
    ]  # fmt: skip


async def test_the_bound_on_waiting_puts_a_family_to_sleep_with_its_requests_under_way(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S - WAKE_S / 2  # too late to begin only then
    assert await b == answer("b")
    assert not a.done()
    bench.release("a")
    assert await a == answer("a")
    assert bench.log == ["start a", "< a", "sleep a", "start b", "< b", "> b", "sleep b", "wake a", "> a"]
    assert (bench.engines["a"][0].finished, bench.engines["a"][0].aborted) == (1, 0)


async def test_a_family_does_not_sleep_before_its_requests_have_come_a_step_further(bench: Bench) -> None:
    bench.launch()
    await bench.logged("start a")
    bench.engines["a"][0].first.clear()
    bench.engines["a"][0].go.clear()
    a = bench.ask("a")
    await bench.logged("< a")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S
    later = await bench.wait("a-2")  # the policy has been asked since
    bench.log.append("first token")
    bench.engines["a"][0].first.set()
    assert await b == answer("b")
    bench.release("a")
    assert (await a, await later) == (answer("a"), answer("a-2"))
    assert bench.log[:6] == ["start a", "< a", "first token", "sleep a", "start b", "< b"]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the policy is told: the name of the event and its arguments."""
    events: list[tuple[Any, ...]] = []

    def listen(name: str) -> None:
        real = getattr(SwapPolicy, name)

        def told(policy: SwapPolicy, *arguments: Any) -> None:
            events.append((name, *arguments))
            real(policy, *arguments)

        monkeypatch.setattr(SwapPolicy, name, told)

    for name in ("start", "requeue", "finish", "loaded", "stepped"):
        listen(name)
    return events


async def test_the_policy_hears_what_becomes_of_a_request(bench: Bench, heard: list[tuple[Any, ...]]) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S
    await b
    await bench.logged("wake a")
    bench.release("a")
    await a
    lives: dict[str, list[str]] = {}
    for what, *arguments in heard:
        if what in ("start", "requeue", "finish"):
            lives.setdefault(arguments[0], []).append(what)
    first, second = lives.values()
    assert first[:4] == ["start", "requeue", "start", "finish"]
    assert second[:2] == ["start", "finish"]


async def test_the_policy_hears_what_turns_and_first_tokens_take(bench: Bench, heard: list[tuple[Any, ...]]) -> None:
    bench.launch()
    await bench.logged("start a")
    bench.engines["a"][0].first.clear()
    a = bench.ask("a-1")
    await bench.logged("< a-1")
    bench.clock.now += 3
    bench.engines["a"][0].first.set()
    assert await a == answer("a-1")
    for text in ("b", "a-2"):
        await bench.ask(text)
    assert [event for event in heard if event[0] == "stepped"] == [
        ("stepped", 1005.0, 3.0), ("stepped", 1007.0, 0.0), ("stepped", 1009.0, 0.0),
    ]  # fmt: skip
    assert [event for event in heard if event[0] == "loaded"] == [
        ("loaded", "a", "disk", WAKE_S), ("loaded", "b", "disk", WAKE_S), ("loaded", "a", "host", WAKE_S),
    ]  # fmt: skip


async def test_who_goes_first_waits_for_what_is_under_way_until_the_bound(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = await bench.wait("b-1", priority=-1)
    bench.clock.now += MAX_WAIT_S / 2
    later = await bench.wait("b-2")
    bench.log.append("bound")
    bench.clock.now += MAX_WAIT_S / 2
    assert (await b, await later) == (answer("b-1"), answer("b-2"))
    bench.release("a")
    assert await a == answer("a")
    assert bench.log[:5] == ["start a", "< a", "bound", "sleep a", "start b"]


async def test_an_engine_that_cannot_keep_requests_completes_them_first(bench: Bench) -> None:
    bench.keeps = False
    bench.launch()
    a = await bench.hold("a")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S
    later = await bench.wait("a-2")
    bench.release("a")
    assert (await a, await b, await later) == (answer("a"), answer("b"), answer("a-2"))
    assert bench.log == [
        "start a", "< a", "> a", "sleep a", "start b", "< b", "> b", "sleep b", "wake a", "start a", "< a-2", "> a-2",
    ]  # fmt: skip
    assert await bench.tiers() == {"a1": "device", "b1": "disk", "c1": "disk"}


async def test_the_bound_on_waiting_also_holds_where_several_are_awake(bench: Bench) -> None:
    bench.launch(memory=2)
    a = await bench.hold("a")
    b = bench.ask("b-0")
    await b
    b = await bench.hold("b")
    c = await bench.wait("c")
    bench.clock.now += MAX_WAIT_S
    assert await c == answer("c")
    assert len([line for line in bench.log if line.startswith("sleep")]) == 1
    bench.release("a")
    bench.release("b")
    assert (await a, await b) == (answer("a"), answer("b"))


async def test_a_family_that_wakes_for_nobody_any_more_counts_all_the_same(bench: Bench) -> None:
    bench.slow = {"b"}
    bench.launch(memory=2)
    a = await bench.hold("a")
    b = await bench.wait("b")
    await bench.logged("start b")
    b.cancel()
    await asyncio.wait([b])
    c = await bench.wait("c")
    bench.engines["b"][0].may_start.set()
    async with asyncio.timeout(10):
        while (await bench.tiers())["b1"] != "device":
            await asyncio.sleep(0.001)
    bench.clock.now += MAX_WAIT_S / 2  # what waking may cost is earned again
    assert await c == answer("c")
    bench.release("a")
    assert await a == answer("a")
    assert bench.most_awake() == 2


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("memory", [None, 2])
@pytest.mark.parametrize("seed", range(5))
async def test_every_call_is_answered_and_the_memory_is_enough(
    bench: Bench, seed: int, memory: int | None, keeps: bool
) -> None:
    dice = random.Random(seed)
    bench.keeps = keeps
    bench.launch(memory=memory)
    asked: dict[str, asyncio.Task[list[Event]]] = {}
    for number in range(120):
        text = f"{dice.choice('abc')}-{number}"
        asked[text] = bench.ask(text)
        if dice.random() < 0.2:
            asked.pop(dice.choice(list(asked))).cancel()
        if dice.random() < 0.3:
            bench.clock.now += dice.choice((0.1, 1, 10, MAX_WAIT_S))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
    async with asyncio.timeout(30):
        for text, task in asked.items():
            assert await task == answer(text)
    assert bench.most_awake() <= (memory or 1)
    assert not any(stats.queued_by_expert for stats in (await bench.device.stats()).values())
