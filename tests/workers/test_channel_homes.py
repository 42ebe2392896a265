"""Experts that live on workers: who learns it, and where calls go. Real channels, fake engines."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from experts.spec import ExpertSpec
from tests.workers.channel_parts import Bench, bench, call
from workers.base import ChatCall, Finish
from workers.channel import client as module
from workers.channel import server as server_module
from workers.channel.choice import AT_ONCE
from workers.channel.client import Links

NAMES = "abcdef"
EXPERTS = tuple(ExpertSpec(name=name, family="f", source="org/model") for name in NAMES)
HOMES = (("a", "b"), ("c", "d"), ("e", "f"))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways look and ask more often than once in seconds."""
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "TOLD_S", 0.02)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


def homes_of(links: Links) -> dict[str, set[str]]:
    return {link.address.worker: {*link.placed} for link in links.up}


@asynccontextmanager
async def placed() -> AsyncIterator[tuple[Bench, Links]]:
    """Three workers, told by one gateway who lives on them; and the links of another gateway, which nobody told."""
    async with bench(3, EXPERTS) as own:
        for link in own.links.up:
            link.place(HOMES[int(link.address.worker[1:])])
        async with Links(own.find) as other:
            await until(lambda: homes_of(other) == {f"w{k}": {*HOMES[k]} for k in range(3)})
            yield own, other


async def ask(links: Links, expert: str, number: int = 1) -> None:
    events = [event async for event in links.generate(call(number, expert))]
    assert isinstance(events[-1], Finish)
    assert events[-1].expert == expert


def asked(own: Bench, worker: int) -> set[str]:
    return {one.expert for one in own.engines[worker].calls}


async def test_a_gateway_learns_who_lives_where_though_it_does_not_ask() -> None:
    async with placed() as (own, _):
        assert [served.lives for served in own.served] == [*HOMES]


async def test_calls_go_where_their_expert_lives() -> None:
    async with placed() as (own, other):
        for number in range(30):
            await ask(other, NAMES[number % 6], number)
        assert [asked(own, worker) for worker in range(3)] == [{*homes} for homes in HOMES]
        assert [len(engine.calls) for engine in own.engines] == [10, 10, 10]


async def test_a_gateway_that_has_just_connected_knows_it_from_its_first_call_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with placed() as (own, _):
        monkeypatch.setattr(module, "TOLD_S", 60.0)
        async with Links(own.find) as third:
            await until(lambda: len(third.up) == 3 and all(link.told for link in third.up))
            for name in NAMES:
                await ask(third, name)
        assert [asked(own, worker) for worker in range(3)] == [{*homes} for homes in HOMES]


async def test_what_an_overloaded_home_cannot_take_goes_elsewhere_and_comes_back_later() -> None:
    async with placed() as (own, other):
        for engine in own.engines:
            engine.token_delay = 0.01
        calls = [asyncio.create_task(hold(other, call(n, "a", "many words " * 2000))) for n in range(AT_ONCE + 4)]
        await until(lambda: sum(engine.running for engine in own.engines) == AT_ONCE + 4)
        assert own.engines[0].running == AT_ONCE
        await ask(other, "a")
        assert len(own.engines[0].calls) == AT_ONCE
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await own.engines[0].reaches(0)
        await ask(other, "a")
        assert len(own.engines[0].calls) == AT_ONCE + 1


async def hold(links: Links, own: ChatCall) -> None:
    async with aclosing(links.generate(own)) as events:
        async for _ in events:
            pass


async def test_experts_of_a_worker_that_went_answer_elsewhere() -> None:
    async with placed() as (own, other):
        own.listed.pop(0)
        await own.servers[0].close(0)
        await until(lambda: len(other.up) == 2)
        for name in NAMES:
            await ask(other, name)
        assert {"a", "b"} <= asked(own, 1) | asked(own, 2)
        assert {"c", "d"} <= asked(own, 1) <= {"a", "b", "c", "d"}


async def test_what_a_worker_said_before_it_was_told_does_not_hold_against_what_it_was_told() -> None:
    async with bench() as own:
        [link] = own.links.up
        gate = asyncio.Event()
        stats = own.served[0].stats

        async def slow() -> object:
            found = await stats()
            await gate.wait()
            return found

        own.served[0].stats = slow  # type: ignore[method-assign, assignment]
        asking = asyncio.create_task(link.stats())
        await asyncio.sleep(0)
        own.servers[0].placed = ()
        link.place(["b", "a"])
        await until(lambda: own.served[0].lives == ("b", "a"))
        own.servers[0].placed = ("stale",)
        gate.set()
        await asking
        assert link.placed == {"a", "b"}


async def test_drafts_of_one_request_are_counted_where_the_later_one_came() -> None:
    async with bench(1, EXPERTS) as own:
        [link] = own.links.up
        for n, (expert, beside) in enumerate([("a", ()), ("b", ("a",)), ("c", ("a", "b")), ("c", ("a",))]):
            one = call(n, expert)
            await hold(own.links, ChatCall(one.request_id, expert, one.messages, one.sampling, beside=beside))
        await link.stats()
        assert link.pairs == {"b": {"a": 1}, "c": {"a": 2, "b": 1}}


async def test_pairs_fade_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_PAIRS", 3)
    async with bench(1, EXPERTS) as own:
        for n in range(4):
            await hold(own.links, ChatCall(f"r{n}", "b", call().messages, beside=("a",)))
        await hold(own.links, ChatCall("r", "f", call().messages, beside=("c", "d", "e")))
        assert own.servers[0].pairs == {"b": {"a": 2}}
