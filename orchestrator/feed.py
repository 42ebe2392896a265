"""What happens in the engines and with batches, told to whoever looks on. docs/api.md describes the events.

`Reader`   one who looks on, and what waits for him
`History`  the swaps of late under numbers that count up, so that a reader who comes back misses none unawares
`Feed`     looks at the workers while there are readers, and at nothing while there are none
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog

from orchestrator.access.grant import Grant
from orchestrator.access.scopes import event_seen_by, seen_by
from orchestrator.errors import Overloaded
from orchestrator.store import StoreUnavailable
from workers.base import SwapEvent, WorkerStats

LOOK_S = 0.5
"""How often the workers are looked at: a swap tells its own time to the millisecond."""
JOBS_S = 1.0
"""How often batches are looked at."""
ROOM = 512
"""Swaps that wait for a reader; of more the oldest go, and he is told how many."""
KEPT = 2048
"""Swaps that are kept for readers who come back."""
MOVES = ("woke", "slept")
"""Kinds of events of a family, not of its engine."""
SEEN = 8192
"""Swaps of a family that are known again: the logs of some sixteen workers."""
DIGITS = 18
"""Of a swap's number that comes from outside."""
MOST_READERS, MOST_OF_KEY = 64, 8
"""Readers at a time, of all keys and of one."""

Stats = Mapping[str, WorkerStats | str]
"""Family -> its worker's stats, or why there are none."""
Jobs = Callable[[str], Awaitable[Sequence[dict[str, Any]]]]
"""Lineage of a key -> its newest batches, as they are told. Each has an `id`."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Swap:
    """number: counts up over all families."""

    number: int
    family: str
    event: SwapEvent


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event. number: of a swap, or of the last one before the reader came; by it he can go on later."""

    kind: str
    data: dict[str, Any]
    number: int | None = None


class Reader:
    """grant: what his key may see. owner: its lineage. after: number of the last swap that he knows. Of a state only
    the latest waits for him, of swaps `room`."""

    def __init__(self, grant: Grant, owner: str, room: int = ROOM, after: int = 0) -> None:
        self.grant, self.owner, self.after = grant, owner, after
        self.ended: str | None = None  # why, once nothing more will come
        self._room = room
        self._states: dict[tuple[str, str], FeedEvent] = {}
        self._last: dict[tuple[str, str], dict[str, Any]] = {}
        self._swaps: deque[Swap] = deque()
        self._lost, self._gap = 0, False
        self._has_seen = False
        self._news = asyncio.Event()

    def see(self, stats: Stats, swaps: Iterable[Swap] = (), *, gap: bool = False) -> None:
        """What was seen of the workers, of which he gets what is new and his key allows. gap: swaps are missing since
        the last look, which is nothing to who sees his first."""
        if gap and self._has_seen:
            self.miss()
        self._has_seen = True
        seen = seen_by(self.grant, stats)
        for family, worker in seen.items():
            self._tell("engine", family, engine_field(family, worker))
        for kind, family in list(self._last):
            if kind == "engine" and family in stats and family not in seen:
                self._tell("engine", family, engine_field(family, why_gone(stats[family])))
        for swap in swaps:
            if (event := event_seen_by(self.grant, swap.event)) is not None:
                self._swaps.append(replace(swap, event=event))
                self._news.set()
        while len(self._swaps) > self._room:
            self._swaps.popleft()
            self._lost += 1

    def see_jobs(self, jobs: Iterable[dict[str, Any]]) -> None:
        """His batches as they are, and which these are. What was told of others is forgotten."""
        found = {job["id"]: job for job in jobs}
        for kind, name in list(self._last):
            if kind == "batch" and name not in found:
                del self._last[kind, name]
                self._states.pop((kind, name), None)
        self._tell("batches", "", {"ids": list(found)})
        for name, job in found.items():
            self._tell("batch", name, job)

    def miss(self) -> None:
        """Nobody knows how many are gone that he has not seen."""
        self._gap = True
        self._news.set()

    def end(self, why: str) -> None:
        self.ended = why
        self._news.set()

    async def take(self, within: float) -> list[FeedEvent]:
        """What is new, after `within` seconds at the latest: swaps in their order, behind them how it is now."""
        try:
            async with asyncio.timeout(within):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        told = [FeedEvent("lost", {"swaps": None if self._gap else self._lost})] if self._gap or self._lost else []
        swaps, states = list(self._swaps), list(self._states.values())
        self._lost, self._gap, self._states = 0, False, {}
        self._swaps.clear()
        return [*told, *(FeedEvent("swap", swap_field(swap), swap.number) for swap in swaps), *states]

    def _tell(self, kind: str, name: str, data: dict[str, Any]) -> None:
        if self._last.get((kind, name)) != data:
            self._last[kind, name] = data
            self._states[kind, name] = FeedEvent(kind, data)
            self._news.set()


@dataclass(frozen=True, slots=True)
class Learned:
    """swaps: that no look before has seen. gap: there were others, which nobody has seen."""

    swaps: list[Swap]
    gap: bool


@dataclass(slots=True)
class History:
    """epoch: names the process, whose numbers are of no use in another one. number: of the last swap, or gap."""

    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    number: int = 0
    kept: deque[Swap] = field(default_factory=lambda: deque(maxlen=KEPT))
    _gap: int = 0  # the number of the last one
    _known: dict[str, tuple[SwapEvent, ...]] = field(default_factory=dict)
    _seen: dict[str, dict[SwapEvent, None]] = field(default_factory=dict)

    def learn(self, stats: Stats) -> Learned:
        """What is new. What was there when a family was first seen is no news."""
        found: list[tuple[str, SwapEvent]] = []
        gap = False
        for family, worker in stats.items():
            if isinstance(worker, str):
                continue
            known = self._known.get(family)
            self._known[family] = worker.events
            new = self._unseen(family, worker.events)
            if known is None:
                continue
            gap = gap or not goes_on(known, worker.events)
            found.extend((family, event) for event in new)
        if gap:
            self.number += 1
            self._gap = self.number
        swaps = [Swap(self.number + place, family, event) for place, (family, event) in enumerate(found, 1)]
        self.number += len(swaps)
        self.kept.extend(swaps)
        return Learned(swaps, gap)

    def _unseen(self, family: str, events: Sequence[SwapEvent]) -> list[SwapEvent]:
        """Those that no look before has seen. A family has several logs, one of which may miss a look."""
        seen = self._seen.setdefault(family, {})
        new = [event for event in events if event not in seen]
        for event in events:
            seen.pop(event, None)
            seen[event] = None
        for event in list(seen)[: max(0, len(seen) - max(SEEN, len(events)))]:
            del seen[event]
        return new

    def id(self, number: int) -> str:
        return f"{self.epoch}.{number}"

    def place(self, last: str) -> int | None:
        """The number of this id, None if it is of another process or of nothing."""
        epoch, _, number = last.partition(".")
        if epoch != self.epoch or not number.isdecimal() or len(number) > DIGITS or int(number) > self.number:
            return None
        return int(number)

    def since(self, after: int) -> tuple[list[Swap], bool]:
        """The swaps behind this number, and whether these are all."""
        first = self.kept[0].number if self.kept else self.number + 1
        return [swap for swap in self.kept if swap.number > after], after >= max(first - 1, self._gap)


class Feed:
    """stats: never raises. jobs: None = there are no batches."""

    def __init__(
        self,
        stats: Callable[[], Awaitable[Stats]],
        jobs: Jobs | None = None,
        history: History | None = None,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self.history = history or History()
        self._stats, self._jobs, self._look_s = stats, jobs, look_s
        self._readers: list[Reader] = []
        self._looking: list[asyncio.Task[None]] = []
        self._ended: str | None = None
        self._unwell: set[str] = set()  # owners whose batches cannot be told; a warning has said so

    @property
    def readers(self) -> int:
        return len(self._readers)

    def open(self, grant: Grant, owner: str, last: str | None = None) -> Reader:
        """One more reader, who must be given to `leave` in the end. last: id of the last event that he knows.
        Raises Overloaded."""
        own = sum(reader.owner == owner for reader in self._readers)
        if len(self._readers) >= MOST_READERS or own >= MOST_OF_KEY:
            whose, most = ("this API key", MOST_OF_KEY) if own >= MOST_OF_KEY else ("the service", MOST_READERS)
            raise Overloaded(f"{most} streams of events of {whose} are open, which is the limit; close one", 5)
        place = None if last is None else self.history.place(last)
        missed, whole = ([], last is None) if place is None else self.history.since(place)
        after = self.history.number if place is None else place
        reader = Reader(grant, owner, room=max(ROOM, len(missed)), after=after)
        if self._ended is not None:
            reader.end(self._ended)
        elif last is not None:
            reader.see({}, missed)
            if not whole:
                reader.miss()
        self._readers.append(reader)
        if self._ended is None and (not self._looking or any(task.done() for task in self._looking)):
            self._rest()
            looks = [self._look()] if self._jobs is None else [self._look(), self._look_at_jobs(self._jobs)]
            self._looking = [asyncio.get_running_loop().create_task(look) for look in looks]
        return reader

    def leave(self, reader: Reader) -> None:
        self._readers.remove(reader)
        if not self._readers:
            self._rest()

    def close(self, why: str) -> None:
        """Ends it for all readers, and for who comes later."""
        self._ended = why
        for reader in self._readers:
            reader.end(why)
        self._rest()

    def _rest(self) -> None:
        for task in self._looking:
            task.cancel()
        self._looking = []

    async def _look(self) -> None:
        while True:
            stats = await self._stats()
            learned = self.history.learn(stats)
            for reader in self._readers:
                reader.see(stats, learned.swaps, gap=learned.gap)
            await asyncio.sleep(self._look_s)

    async def _look_at_jobs(self, jobs: Jobs) -> None:
        """By itself: a store that is slow to tell of batches keeps nobody from what the engines do."""
        while True:
            for owner in dict.fromkeys(reader.owner for reader in self._readers):
                try:
                    found = await jobs(owner)
                except StoreUnavailable:
                    break  # it is so for all; which is told elsewhere
                except Exception:  # a batch that goes just now, or storage that is away: the next look may see them
                    level = logging.DEBUG if owner in self._unwell else logging.WARNING
                    log.log(level, "batches cannot be told", exc_info=True)
                    self._unwell.add(owner)
                    continue
                self._unwell.discard(owner)
                for reader in self._readers:
                    if reader.owner == owner:
                        reader.see_jobs(found)
            await asyncio.sleep(JOBS_S)


def why_gone(worker: WorkerStats | str) -> str:
    """Why a key with scopes is told no more of an engine, without names that are not its own."""
    return "its worker does not answer" if isinstance(worker, str) else "this key may use none of its experts"


def goes_on(known: Sequence[SwapEvent], events: Sequence[SwapEvent]) -> bool:
    """Does an engine's log, which keeps but the last some hundred, have all that happened since it was `known`? The
    moves of its family, which are in it too, are counted and kept apart. Who is known to sleep does nothing until its
    log begins anew."""
    former, now = ([event for event in log if event.kind not in MOVES] for log in (known, events))
    if not former or known[-1].kind == "slept":
        begins = not now or now[0].number <= 1
        return begins or not frozenset(former).isdisjoint(now)
    return now != [] and (now[0].number == former[-1].number + 1 or not frozenset(former).isdisjoint(now))


def engine_field(family: str, worker: WorkerStats | str) -> dict[str, Any]:
    """A family's engine as it is now. What changes all the time without anything happening is left out."""
    if isinstance(worker, str):
        return {"family": family, "why": worker}
    return {
        "family": family,
        "active": worker.active,
        "running": worker.running,
        "waiting": worker.waiting,
        "queued": {name: n for name, n in worker.queued_by_expert.items() if n},
        "tiers": worker.tiers,
        "swaps": worker.swaps,
        "swap_seconds": round(worker.swap_seconds, 6),
        "oldest_wait": round(worker.oldest_wait, 1),
        "tier_bytes": worker.tier_bytes,
        "room_bytes": worker.room_bytes,
        "restarts": worker.restarts,
        "last_event": worker.events[-1].at if worker.events else None,
    }


def swap_field(swap: Swap) -> dict[str, Any]:
    """As /v1/swaps has it."""
    return {"family": swap.family, **asdict(swap.event)}
