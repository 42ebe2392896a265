"""A device on which three families take turns, and the log of what happens there."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from experts.spec import ExpertSpec
from workers.base import ChatCall, Delta, Event, Finish, Roster, Usage
from workers.fake_engine import FakeEngine
from workers.families import SharedDevice
from workers.family import Family
from workers.swap_policy import SwapSettings

WAKE_S = 2.0
MAX_WAIT_S = 100.0


def roster(family: str, *names: str) -> Roster:
    return Roster(tuple(ExpertSpec(name=name, source="x", family=family) for name in names), version=" ".join(names))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Engine(FakeEngine):
    """Writes what happens into a log; starting and waking take WAKE_S of the clock. While `first` is clear, a request
    has no token; while `go` is clear, it stops after its first one."""

    def __init__(self, family: str, roster: Roster, log: list[str], clock: Clock, *, keeps: bool) -> None:
        super().__init__(family, roster.experts, keeps_requests=keeps)
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
        def make(roster: Roster) -> Engine:
            engine = Engine(name, roster, self.log, self.clock, keeps=self.keeps)
            if name in self.slow:
                engine.may_start.clear()
            if self.broken.get(name, 0) > 0:
                self.broken[name] -= 1
                engine.fail_next_start(f"no weights of {name}")
            self.engines.setdefault(name, []).append(engine)
            return engine

        return Family(name, roster(name, f"{name}1"), make, size)

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
