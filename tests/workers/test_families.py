"""Families on one device take turns: who is awake, who waits, and what becomes of the calls."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import pytest_asyncio

from experts.spec import ExpertSpec
from workers.base import ChatCall, Delta, Event, Failure, Finish, Usage
from workers.fake_engine import FakeEngine
from workers.families import Family, SharedDevice
from workers.swap_policy import SwapPolicy, SwapSettings

WAKE_S = 2.0
MAX_WAIT_S = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Engine(FakeEngine):
    """Writes what happens into a log; starting and waking take WAKE_S of the clock. While `first` is clear, a request
    has no token; while `go` is clear, it stops after its first one."""

    def __init__(self, family: str, log: list[str], clock: Clock, *, keeps: bool) -> None:
        super().__init__(family, [ExpertSpec(name=f"{family}1", source="x", family=family)], keeps_requests=keeps)
        self.log, self.clock = log, clock
        self.left = 0  # requests that were still running when it was closed
        self.may_start, self.first, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.may_start, self.first, self.go):
            gate.set()

    async def start(self) -> None:
        self.log.append(f"start {self.family}")
        self.clock.now += WAKE_S
        await self.may_start.wait()
        await super().start()

    async def sleep(self) -> Literal["host", "disk"]:
        self.log.append(f"sleep {self.family}")
        return await super().sleep()

    async def wake(self) -> None:
        self.log.append(f"wake {self.family}")
        self.clock.now += WAKE_S
        await super().wake()

    async def close(self) -> None:
        self.log.append(f"close {self.family}")
        self.left = self.running
        await super().close()

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        text = call.messages[0]["content"]
        self.log.append(f"< {text}")
        await self.first.wait()
        async with aclosing(super().generate(call)) as events:
            async for event in events:
                if not isinstance(event, Delta):
                    self.log.append(f"> {text}")
                yield event
                await self.go.wait()


@dataclass
class Bench:
    """A device with families a, b and c, each with one expert: a1, b1, c1."""

    clock: Clock = field(default_factory=Clock)
    log: list[str] = field(default_factory=list)
    engines: dict[str, list[Engine]] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)  # families that do not start before `may_start` is set
    keeps: bool = True
    device: SharedDevice = field(init=False)
    tasks: list[asyncio.Task[list[Event]]] = field(default_factory=list)

    def family(self, name: str, size: int) -> Family:
        def make() -> Engine:
            engine = Engine(name, self.log, self.clock, keeps=self.keeps)
            if name in self.slow:
                engine.may_start.clear()
            if self.broken.get(name, 0) > 0:
                self.broken[name] -= 1
                engine.fail_next_start(f"no weights of {name}")
            self.engines.setdefault(name, []).append(engine)
            return engine

        return Family(name, (f"{name}1",), make, size)

    def launch(self, *, memory: int | None = None, families: str = "abc", sizes: tuple[int, ...] = (1, 1, 1)) -> None:
        self.device = SharedDevice(
            "gpu0",
            [self.family(name, size) for name, size in zip(families, sizes, strict=False)],
            SwapSettings(overhead=0.1, max_wait=MAX_WAIT_S),
            memory=memory,
            poll=0.001,
            retry=50.0,
            max_failures=2,
            clock=self.clock,
        )
        self.device.launch()

    def ask(self, text: str, *, deadline: float = float("inf"), priority: int = 0) -> asyncio.Task[list[Event]]:
        """Asks the expert of the family that `text` begins with."""
        call = ChatCall(text, f"{text[0]}1", ({"role": "user", "content": text},), deadline=deadline, priority=priority)

        async def events() -> list[Event]:
            async with aclosing(self.device.generate(call)) as stream:
                return [event async for event in stream]

        task = asyncio.create_task(events())
        self.tasks.append(task)
        return task

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not happened():
                await asyncio.sleep(0.001)

    async def logged(self, line: str) -> None:
        await self.until(lambda: line in self.log)

    async def hold(self, text: str) -> asyncio.Task[list[Event]]:
        """A request that is under way, and stays so until `release`."""
        await self.until(lambda: text[0] in self.engines)
        self.engines[text[0]][-1].go.clear()
        task = self.ask(text)
        await self.logged(f"< {text}")
        await self.engines[text[0]][-1].reaches(1)
        return task

    async def wait(self, text: str, priority: int = 0) -> asyncio.Task[list[Event]]:
        """A request that waits for the turn of its family."""
        before = await self.waiting(text[0])
        task = self.ask(text, priority=priority)
        async with asyncio.timeout(10):
            while await self.waiting(text[0]) == before:
                await asyncio.sleep(0.001)
        return task

    async def waiting(self, family: str) -> int:
        return (await self.device.stats())[family].waiting

    def release(self, family: str) -> None:
        self.engines[family][-1].go.set()

    def most_awake(self) -> int:
        """Families that were awake, or on their way, at the same time."""
        awake: set[str] = set()
        most = 0
        for line in self.log:
            what, family = line.split(" ", 1)
            if what in ("start", "wake"):
                awake.add(family)
            elif what in ("sleep", "close"):
                awake.discard(family)
            most = max(most, len(awake))
        return most

    async def tiers(self) -> dict[str, str]:
        return {expert: tier for stats in (await self.device.stats()).values() for expert, tier in stats.tiers.items()}


def answer(text: str) -> list[Event]:
    """What the fake says to one word."""
    expert = f"{text[0]}1"
    return [Delta(expert), Delta(" heard:"), Delta(f" {text}"), Finish("stop", expert, Usage(1, 3))]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    await made.device.close()


# Turns


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
        ("woke", "a", "disk", "device"), ("slept", "a", "device", "host"), ("woke", "a", "host", "device"),
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


# Calls that wait


async def test_calls_that_wait_are_counted(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = [await bench.wait("b-1"), await bench.wait("b-2")]
    bench.clock.now += 7
    stats = await bench.device.stats()
    assert (stats["a"].running, stats["a"].waiting, stats["a"].queued_by_expert) == (1, 0, {"a1": 1})
    assert (stats["b"].running, stats["b"].waiting, stats["b"].queued_by_expert) == (0, 2, {"b1": 2})
    assert (stats["b"].oldest_wait, stats["c"].oldest_wait) == (7, 0)
    bench.release("a")
    await asyncio.gather(a, *b)
    assert (await bench.device.stats())["b"].queued_by_expert == {}


async def test_nobody_is_woken_for_a_call_that_has_gone(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    b.cancel()
    await asyncio.wait([b])
    bench.clock.now += MAX_WAIT_S
    bench.release("a")
    assert (await a, await bench.ask("a-2")) == (answer("a-1"), answer("a-2"))
    assert bench.log == ["start a", "< a-1", "> a-1", "< a-2", "> a-2"]
    assert (await bench.device.stats())["b"].queued_by_expert == {}


async def test_a_call_that_is_given_up_is_aborted_in_its_engine(bench: Bench) -> None:
    bench.launch()
    call = ChatCall("r", "a1", ({"role": "user", "content": "a"},))
    await bench.logged("start a")
    bench.engines["a"][0].go.clear()
    async with aclosing(bench.device.generate(call)) as events:
        await anext(events)
    assert (bench.engines["a"][0].running, bench.engines["a"][0].aborted) == (0, 1)


async def test_a_deadline_ends_the_wait(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    [failure] = await bench.ask("b", deadline=time.time() + 0.05)
    assert isinstance(failure, Failure)
    assert failure.code == "deadline"
    bench.release("a")
    assert await a == answer("a")
    assert "b" not in bench.engines


async def test_an_expert_of_no_family_is_refused(bench: Bench) -> None:
    bench.launch()
    [failure] = await bench.ask("d")
    assert failure == Failure("expert_unavailable", "no family on device gpu0 has the expert d1")


async def test_a_caller_that_is_slow_to_read_does_not_keep_its_family_awake(bench: Bench) -> None:
    bench.launch()
    call = ChatCall("slow", "a1", ({"role": "user", "content": "a"},))
    async with aclosing(bench.device.generate(call)) as events:
        read = [await anext(events)]
        assert await bench.ask("b") == answer("b")
        read += [event async for event in events]
    assert read == answer("a")
    assert bench.log == ["start a", "< a", "> a", "sleep a", "start b", "< b", "> b"]


# Engines that fail


async def test_what_was_under_way_in_an_engine_that_does_not_wake_ends(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S / 2
    later = await bench.wait("a-2")
    bench.clock.now += MAX_WAIT_S / 2
    bench.engines["a"][0].fail_next_start("out of memory")
    assert await b == answer("b")
    assert await a == [Delta("a1"), Failure("engine_died", "the engine of a1 went down")]
    assert await later == [Failure("expert_unavailable", "the engine of a1 does not start: out of memory")]
    assert (bench.engines["a"][0].aborted, bench.engines["a"][0].left) == (1, 0)


async def test_a_request_that_breaks_its_engine_s_code_ends_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    assert await bench.ask("a") == answer("a")

    def broken(call: ChatCall) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.engines["a"][0], "answer", broken)
    assert await bench.ask("a") == [Failure("internal", "the engine of a1 gave no end of the answer")]
    assert await bench.ask("b") == answer("b")


async def test_when_an_engine_dies_its_requests_end_and_those_that_wait_go_on(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    bench.engines["a"][0].die()
    bench.release("a")
    *_, last = await a
    assert isinstance(last, Failure)
    assert last.code == "engine_died"
    assert await b == answer("b")
    assert await bench.ask("a-2") == answer("a-2")
    assert [line for line in bench.log if line[0] not in "<>"] == [
        "start a", "close a", "start b", "sleep b", "start a",
    ]  # fmt: skip
    assert len(bench.engines["a"]) == 2
    assert (await bench.device.stats())["a"].restarts == 1


async def test_the_others_go_on_after_an_engine_that_does_not_end_as_it_should(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Engine) -> None:
        raise OSError("no such process")

    bench.launch()
    assert await bench.ask("a") == answer("a")
    monkeypatch.setattr(bench.engines["a"][0], "close", broken.__get__(bench.engines["a"][0]))
    bench.engines["a"][0].die()
    assert await bench.ask("b") == answer("b")
    assert await bench.ask("a") == answer("a")
    bench.device.check_health()


async def test_an_engine_that_dies_while_nobody_asks_is_started_anew(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["b"][0].die()
    await bench.until(lambda: bench.log[-1] == "start b" and len(bench.engines["b"]) == 2)
    assert bench.log.count("close b") == 1
    assert bench.log.count("start a") == 1


async def test_an_engine_that_dies_asleep_is_started_when_it_is_asked(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["a"][0].die()
    await bench.logged("close a")
    assert await bench.tiers() == {"a1": "disk", "b1": "device", "c1": "disk"}
    assert await bench.ask("a") == answer("a")
    assert bench.log[-4:] == ["sleep b", "start a", "< a", "> a"]


async def test_a_family_that_does_not_start_fails_alone_and_is_tried_again_later(bench: Bench) -> None:
    bench.broken["b"] = 1
    bench.launch()
    refused = Failure("expert_unavailable", "the engine of b1 does not start: no weights of b")
    early = [bench.ask("b-1"), bench.ask("b-2")]
    assert [await task for task in early] == [[refused], [refused]]
    assert await bench.ask("b-3") == [refused]
    assert bench.log.count("start b") == 1
    assert await bench.ask("a") == answer("a")
    assert await bench.tiers() == {"a1": "device", "b1": "failed: no weights of b", "c1": "disk"}
    bench.device.check_health()
    bench.clock.now += 50
    assert await bench.ask("b-4") == answer("b-4")
    assert await bench.tiers() == {"a1": "host", "b1": "device", "c1": "disk"}


async def test_a_family_that_does_not_wake_is_started_anew_later(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["a"][0].fail_next_start("out of memory")
    assert await bench.ask("a-1") == [Failure("expert_unavailable", "the engine of a1 does not start: out of memory")]
    bench.clock.now += 50
    assert await bench.ask("a-2") == answer("a-2")
    assert len(bench.engines["a"]) == 2


async def test_if_the_first_family_does_not_start_the_next_one_is_awake(bench: Bench) -> None:
    bench.broken["a"] = 1
    bench.launch()
    await bench.logged("start b")
    await bench.until(lambda: len(bench.log) == 3)
    assert bench.log == ["start a", "close a", "start b"]


async def test_a_family_larger_than_the_device_fails_alone(bench: Bench) -> None:
    bench.launch(memory=2 << 30, sizes=(3 << 30, 2 << 30, 1 << 30))
    [failure] = await bench.ask("a")
    assert failure == Failure(
        "expert_unavailable",
        "the engine of a1 does not start: it takes 3.00 GiB, the device has 2.00; lower families.a.memory_gib, "
        "or raise the device's",
    )
    assert await bench.ask("b") == answer("b")
    assert "start a" not in bench.log
    bench.device.check_health()


async def test_a_device_with_no_family_that_fits_reports_itself_unhealthy(bench: Bench) -> None:
    bench.launch(memory=1 << 30, families="a", sizes=(2 << 30,))
    with pytest.raises(RuntimeError, match=r"it takes 2\.00 GiB, the device has 1\.00"):
        bench.device.check_health()


async def test_a_device_on_which_nothing_starts_reports_itself_unhealthy(bench: Bench) -> None:
    bench.broken = {"a": 9, "b": 9}
    bench.launch(families="ab")
    for _ in range(2):
        started = len(bench.log)
        await bench.until(lambda: len(bench.log) == started + 4)  # noqa: B023
        bench.clock.now += 50
    with pytest.raises(RuntimeError, match="no engine on device gpu0 starts: a: no weights of a; b: no weights of b"):
        bench.device.check_health()


async def test_closing_ends_every_engine_and_every_call(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    b = await bench.hold("b-1")
    c = await bench.wait("c")
    await bench.device.close()
    assert await b == [Delta("b1"), Failure("engine_died", "the engine of b1 went down")]
    assert await c == [Failure("engine_starting", "the engine of c1 is being ended")]
    assert (bench.log.count("close a"), bench.log.count("close b"), "c" in bench.engines) == (1, 1, False)
    assert bench.engines["b"][0].left == 0
    assert await bench.ask("b-2") == [Failure("engine_starting", "the engine of b1 is starting; try again shortly")]
