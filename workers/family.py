"""A family of a shared device: its engine, its calls, and how it stands."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.base import ChatCall, Event, Roster, SleepingEngine, SwapEvent, WorkerStats
from workers.fair_queue import KeyHeap
from workers.swap_policy import Key, Tier


@dataclass(frozen=True, slots=True)
class Family:
    """A family of a device. roster: whom it serves at first; bytes: what its engine takes of the device's memory while
    awake."""

    name: str
    roster: Roster
    make_engine: Callable[[Roster], SleepingEngine]
    bytes: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """A call that has not ended. task: it is under way in the engine; kept: in one that sleeps."""

    number: str
    call: ChatCall
    key: Key
    arrived: float
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    kept: bool = False


@dataclass(slots=True, eq=False)
class Member:
    """A family and its engine. told: the engine's last stats before it fell asleep. roster: whom it is to serve;
    adopted: whom the engine does, None if there is none. lock: held by who changes the engine's state."""

    family: Family
    size: int
    roster: Roster
    adopted: Roster | None = None
    adopting: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    engine: SleepingEngine | None = None
    tier: Tier = "disk"
    told: WorkerStats | None = None
    since: float = -math.inf  # in this tier
    progressed: bool = False  # has answered something since it woke
    problem: str | None = None
    retry_at: float = 0.0
    failures: int = 0  # to start, in a row
    deaths: int = 0
    wakes: int = 0
    wake_seconds: float = 0.0
    calls: dict[str, Call] = field(default_factory=dict)
    held: KeyHeap[Call] = field(default_factory=KeyHeap)  # of these: wait for the family's turn, as they will start
    events: deque[SwapEvent] = field(default_factory=lambda: deque(maxlen=512))

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def awake(self) -> bool:
        return self.tier == "device"

    @property
    def is_settled(self) -> bool:
        """Do calls from now on meet the experts of its roster? While its engine sleeps they wait until it has them."""
        return not self.awake or self.roster == self.adopted

    @property
    def busy(self) -> bool:
        return any(call.task is not None for call in self.calls.values())

    @property
    def can_pause(self) -> bool:
        """May it go to sleep with calls under way? Only after some progress, else turns could be too short for any."""
        return self.engine is not None and self.engine.keeps_requests and self.progressed

    def hungry(self, now: float) -> float:
        """Seconds that its calls wait for its turn, since they came or its last turn ended."""
        return now - max(self.since, min((call.arrived for call in self.calls.values()), default=now))
