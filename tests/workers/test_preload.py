"""Images that are brought ahead: which ones, when, and what that must not disturb."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from experts.spec import ExpertSpec
from tests.workers.channel_parts import call
from workers.base import Delta, Roster, WorkerStats
from workers.fake_engine import FakeEngine
from workers.preload import TRIES, Preloader, wanted
from workers.worker import Worker

NAMES = tuple("abcdef")
SPECS = tuple(ExpertSpec(name=name, family="f", source="org/model") for name in NAMES)


def stats(device: int, host: int = 0, *, on_device: str = "", in_host: str = "", size: int = 10) -> WorkerStats:
    tiers = {name: "device" if name in on_device else "host" if name in in_host else "disk" for name in NAMES}
    return WorkerStats("f", tiers, image_bytes=dict.fromkeys(NAMES, size), room_bytes={"device": device, "host": host})


def test_as_many_as_the_device_holds_less_one_are_brought_the_first_last() -> None:
    assert wanted(("d", "e", "f"), NAMES, stats(30)) == ["e", "d"]
    assert wanted(("d", "e", "f"), NAMES, stats(60)) == ["f", "e", "d"]


def test_what_is_there_is_not_brought() -> None:
    assert wanted(("d", "e", "f"), NAMES, stats(40, on_device="abde")) == ["f"]
    assert wanted(("a", "b"), NAMES, stats(30, on_device="ab")) == []


def test_those_for_host_memory_are_brought_before_those_for_the_device() -> None:
    assert wanted(tuple("abcd"), NAMES, stats(20, 20)) == ["c", "b", "a"]
    assert wanted(tuple("abcd"), NAMES, stats(20, 20, in_host="b")) == ["c", "a"]


def test_what_cannot_be_loaded_or_is_of_unknown_size_is_left_alone() -> None:
    own = stats(60)
    own.tiers["a"] = "failed: no weights"
    own.image_bytes["b"] = 0
    assert wanted(tuple("abc"), NAMES, own) == ["c"]
    assert wanted(tuple("abc"), NAMES, WorkerStats("f", dict.fromkeys(NAMES, "starting"))) == []


@asynccontextmanager
async def preloading(engine: FakeEngine, idle_s: float = 0.0) -> AsyncIterator[Preloader]:
    await engine.start()
    own = Preloader(lambda: engine if engine.is_alive() else None, {name: name for name in NAMES}, idle_s=idle_s)
    try:
        yield own
    finally:
        await own.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.005)


async def on_device(engine: FakeEngine) -> set[str]:
    return {name for name, tier in (await engine.stats()).tiers.items() if tier == "device"}


async def test_an_idle_worker_turns_to_the_experts_that_live_on_it() -> None:
    engine = FakeEngine("f", SPECS, images=4)
    async with preloading(engine) as own:
        assert await on_device(engine) == {*"abcd"}
        own.live(["f", "e", "d", "c"])
        await until(lambda: engine.finished == 2)
        assert await on_device(engine) >= {*"fed"}
        assert [one.expert for one in engine.calls] == ["e", "f"]
        assert all(one.sampling.max_tokens == 1 for one in engine.calls)


async def test_each_is_brought_once_though_others_push_it_out() -> None:
    engine = FakeEngine("f", SPECS, images=2)
    async with preloading(engine) as own:
        own.live(["f"])
        await until(lambda: engine.finished == 1)
        for name in "ab":
            with own.held():
                async with aclosing(engine.generate(call(expert=name))) as events:
                    assert [event async for event in events]
        assert await on_device(engine) == {*"ab"}
        own._news.set()  # as if there were news
        await asyncio.sleep(0.05)
        assert engine.finished == 3
        own.live(["f"])
        await until(lambda: engine.finished == 4)


async def test_nothing_is_brought_while_somebody_is_answered() -> None:
    engine = FakeEngine("f", SPECS, images=2)
    async with preloading(engine) as own:
        with own.held():
            own.live(["f"])
            await asyncio.sleep(0.05)
            assert not engine.calls
        await until(lambda: engine.finished == 1)


async def test_a_call_breaks_it_off_and_it_is_tried_again_later_but_not_for_ever() -> None:
    class NeverLoaded(FakeEngine):
        async def stats(self) -> WorkerStats:
            return stats(20)

    engine = NeverLoaded("f", SPECS, token_delay=30.0)
    async with preloading(engine) as own:
        own.live(["f"])
        for attempt in range(1, TRIES + 1):
            await engine.reaches(1)
            with own.held():
                await engine.reaches(0)
            assert engine.aborted == attempt
        await asyncio.sleep(0.05)
        assert (len(engine.calls), engine.finished) == (TRIES, 0)


async def test_an_expert_that_fails_is_not_tried_twice() -> None:
    engine = FakeEngine("f", SPECS, images=3)
    async with preloading(engine) as own:
        engine.fail_next("expert_unavailable")
        own.live(["f", "e"])
        await until(lambda: engine.finished == 1)
        assert [one.expert for one in engine.calls] == ["e", "f"]


async def test_an_engine_that_comes_up_later_is_made_ready_too() -> None:
    engines: list[FakeEngine] = []

    def make(roster: Roster) -> FakeEngine:
        engines.append(FakeEngine("f", roster.experts, images=2))
        return engines[-1]

    worker = Worker("f", Roster(SPECS), make, poll=0.01)
    worker._ahead._idle_s = 0.0
    worker.live(["f"])  # before there is an engine
    worker.launch()
    await until(lambda: len(engines) == 1 and engines[0].finished == 1)
    engines[0].die()
    await until(lambda: len(engines) == 2 and engines[1].finished == 1)
    assert "f" in await on_device(engines[1])
    async with aclosing(worker.generate(call(expert="f", text="words " * 3))) as events:
        assert isinstance(await anext(events), Delta)
    await worker.close()


async def test_what_is_brought_holds_up_no_change_of_experts_and_keeps_no_former_image() -> None:
    experts = SPECS[:3]  # of which two have room, so one image is brought: that of "c", which is not there
    better = experts[2].model_copy(update={"source": "org/better"})
    engine = FakeEngine("f", experts, images=2, token_delay=60.0)
    worker = Worker("f", Roster(experts, version="first"), lambda roster: engine, poll=0.01)
    worker._ahead._idle_s = 0.0
    worker.launch()
    worker.live(["c", "new"])  # an expert that it does not serve yet is left alone
    await engine.reaches(1)
    engine.token_delay = 0.0
    worker.adopt(Roster((*experts[:2], better, SPECS[3]), version="second"))
    async with asyncio.timeout(10):
        while (await worker.stats()).roster != "second":
            await asyncio.sleep(0.005)
    await until(lambda: engine.finished == 1)
    assert engine.aborted == 1
    assert [one.expert for one in engine.calls] == ["c", "c"]
    assert ("c", "org/better") in engine._device
    assert ("c", "org/model") not in engine._device
    await worker.close()


async def test_an_expert_that_lives_here_before_the_engine_has_it_is_brought_once_it_has() -> None:
    engine = FakeEngine("f", SPECS[:2], images=2)
    worker = Worker("f", Roster(SPECS[:2], version="first"), lambda roster: engine, poll=0.01)
    worker._ahead._idle_s = 0.0
    worker.launch()
    worker.live(["c"])
    await asyncio.sleep(0.05)
    assert not engine.calls
    worker.adopt(Roster(SPECS[:3], version="second"))
    await until(lambda: engine.finished == 1)
    assert "c" in await on_device(engine)
    await worker.close()


async def test_an_adapter_needs_the_image_of_its_base() -> None:
    engine = FakeEngine("f", SPECS, images=2)
    await engine.start()
    own = Preloader(lambda: engine, {**{name: name for name in NAMES}, "tuned": "f"}, idle_s=0.0)
    own.live(["tuned", "f"])
    await until(lambda: engine.finished == 1)
    assert [one.expert for one in engine.calls] == ["f"]
    await own.close()
