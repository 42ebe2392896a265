"""Keeps the experts of some workers placed: what they told in, who is to live where out.

The workers themselves hold the placement: each is told who lives on it (`workers.channel.frames.Place`), and tells that
to whoever asks for its stats, with what was asked of each expert. So every gateway learns it from those whom it calls,
and whoever plans needs no memory of its own but of the last windows: it may die and be started anew.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from experts.spec import ExpertSpec
from orchestrator.placement.measured import (
    BYTES_A_SECOND,
    TOKENS_A_SECOND,
    Asked,
    room,
    selected_together,
    sized,
    worked,
)
from orchestrator.placement.model import CoSelection, Demand, Placement, PlacementError, Worker
from orchestrator.placement.place import holdings
from orchestrator.placement.replan import Bounds, replan
from workers.base import WorkerStats
from workers.channel.client import Link, Links

EVERY_S = 5.0
"""Between two looks at the workers."""
WINDOW_S = 60.0
PATIENCE_S = 120.0
LITTLE = 1 / 3600
"""Requests a second that count for each expert at least: those whom nobody asks are spread over the workers too."""
FADES = 0.9
"""What a worker did in a window counts so much less in the next one, for how fast it is."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker told. node: the machine that it is on; told: family -> its stats; pairs: see `frames.Stats`."""

    worker: str
    node: str
    placed: frozenset[str]
    asked: Asked
    told: Mapping[str, WorkerStats] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, link: Link) -> "Seen":
        return cls(link.address.worker, link.address.host, link.placed, link.asked, link.told, link.pairs)


class Sizes(Protocol):
    def __call__(self, spec: ExpertSpec) -> float: ...


def unasked(
    specs: Iterable[ExpertSpec], size: Sizes, seconds_per_byte: float = 1 / BYTES_A_SECOND
) -> tuple[Demand, ...]:
    """The experts that have weights, of whom nothing is known yet: as if all were asked alike, and little.

    size: bytes of the image, or of an adapter's own weights. seconds_per_byte: of a load.
    """
    return tuple(
        Demand(spec.name, spec.family_name, 1.0, 1.0, size(spec), size(spec) * seconds_per_byte, spec.base)
        for spec in specs
        if spec.kind != "remote"
    )


def asked_since(
    known: Sequence[Demand], before: Mapping[str, Asked], after: Mapping[str, Asked], seconds: float
) -> tuple[Demand, ...]:
    """The same experts with what was asked of them in a window. before, after: worker -> what it had counted.

    A worker that is new in `after` began to count in the window; what one that is gone had counted since is lost.
    """
    found = []
    for own in known:
        calls = tokens = 0
        for worker, counts in after.items():
            now, then = counts.get(own.expert, (0, 0)), before.get(worker, {}).get(own.expert, (0, 0))
            calls, tokens = calls + now[0] - then[0], tokens + now[1] - then[1]
        # Tokens may come of calls that began before the window.
        each = max(calls, 1 if tokens else 0)
        found.append(replace(own, rate=each / seconds, tokens=tokens / each if each else own.tokens))
    return tuple(found)


def as_asked(known: Sequence[Demand], window: Sequence[Demand]) -> tuple[Demand, ...]:
    """These experts as they were asked in a window; those that it does not know stay as they are known."""
    then = {own.expert: own for own in window}
    return tuple(
        replace(own, rate=then[own.expert].rate, tokens=then[own.expert].tokens) if own.expert in then else own
        for own in known
    )


@dataclass(slots=True)
class Planner:
    """Decides for workers of equal kind.

    known: see `unasked`. families: that the workers serve. workers: as many as there are to be at least; nothing is
    decided before so many were seen, for patience_s at most. speed, device: see `Worker`; what holds until they tell.
    window_s: seconds of a window. together: who answers the same requests beside those that workers tell of.
    """

    known: Sequence[Demand]
    families: tuple[str, ...]
    speed: float = TOKENS_A_SECOND
    device: float = math.inf
    workers: int = 1
    window_s: float = WINDOW_S
    patience_s: float = PATIENCE_S
    bounds: Bounds = field(default_factory=Bounds)
    together: Sequence[CoSelection] = ()
    _followed: deque["Planner"] = field(default_factory=lambda: deque(maxlen=1))  # from the next look on
    _windows: deque[tuple[Demand, ...]] = field(default_factory=deque)
    _began: tuple[float, tuple[Seen, ...]] | None = None
    _last: Mapping[str, frozenset[str]] | None = None  # worker -> who lived there
    _waits_until: float | None = None
    _tokens: float = 0.0
    _seconds: float = 0.0

    def follow(self, other: "Planner") -> None:
        """Decides for the experts, families and workers of `other` from its next look on, and keeps what it has seen.
        A look that is under way in another thread ends as it began."""
        self._followed.append(other)

    def look(self, seen: Sequence[Seen], now: float, there: int = 0) -> dict[str, tuple[str, ...]]:
        """Worker -> the experts that it is to be told live on it, the one whose image is to be nearest first; those
        that need be told nothing are left out.

        seen: the workers that are up; now: seconds of any clock; there: workers that there are, of which at the
        beginning some may still have to be met. Raises PlacementError.
        """
        self._take_over()
        new = self._close_window(seen, now)
        seen = sorted(seen, key=lambda own: own.worker)
        here = {own.worker: own.placed for own in seen}
        if not seen or not self.known or self._waits(len(seen), there, now) or not (new or here != self._last):
            return {}
        self._last = here
        told = [stats for own in seen for stats in own.told.values()]
        workers = [self._worker(own) for own in seen]
        current = Placement({own.expert: tuple(w.worker for w in seen if own.expert in w.placed) for own in self.known})
        # Between windows only what is missing is looked for, and work for a worker that came and has nothing yet.
        idle = any(not own.placed for own in seen)
        windows = list(self._windows)[0 if new or idle else -1 :] or [tuple(self.known)]
        windows[-1] = sized(as_asked(self.known, windows[-1]), told)
        together = selected_together([own.pairs for own in seen], self.together)
        change = replan(current, workers, windows, together, self.bounds)
        if change is not None:
            logger.info(
                "experts are placed anew: missing %s, shifted %s, %d loads of %.0f s",
                *(change.missing, change.shifted, len(change.loads), change.seconds),
            )
        placement = current if change is None else change.placement
        return {
            worker.name: _in_order(placement, worker, windows[-1])
            for own, worker in zip(seen, workers, strict=True)
            if {*placement.on(worker.name)} != own.placed  # which may hold experts that are gone
        }

    def _take_over(self) -> None:
        while self._followed:
            other = self._followed.popleft()
            self.known, self.families = other.known, other.families
            self.workers, self.together = other.workers, other.together
            self._last = None

    def _waits(self, number: int, there: int, now: float) -> bool:
        """Are there too few workers yet to begin with?"""
        if self._waits_until is None:
            self._waits_until = now + self.patience_s
        if number >= max(self.workers, there):
            self._waits_until = -math.inf  # they were all there once: from now on one that is missing is a loss
        return now < self._waits_until

    def _worker(self, own: Seen) -> Worker:
        speed = self._tokens / self._seconds if self._tokens and self._seconds else self.speed
        device, host = room(own.told, "device", self.device), room(own.told, "host", 0.0)
        return Worker(own.worker, own.node, self.families, speed, device, host)

    def _close_window(self, seen: Sequence[Seen], now: float) -> bool:
        kept = tuple(replace(own, asked=dict(own.asked)) for own in seen)
        if self._began is None:
            self._began = now, kept
            return False
        since, before = self._began
        if now - since < self.window_s:
            return False
        self._began = now, kept
        then, after = ({own.worker: own.asked for own in each} for each in (before, seen))
        demands = asked_since(self.known, then, after, now - since)
        self._windows.append(tuple(replace(own, rate=max(own.rate, LITTLE)) for own in demands))
        while len(self._windows) > self.bounds.windows:
            self._windows.popleft()
        self._learn_speed({own.worker: own for own in before}, seen)
        return True

    def _learn_speed(self, before: Mapping[str, Seen], seen: Sequence[Seen]) -> None:
        """From the workers whose engine was not started anew in the window: it counts from its start."""
        self._tokens, self._seconds = FADES * self._tokens, FADES * self._seconds
        for own in seen:
            then = before.get(own.worker)
            (tokens, seconds), (less, fewer) = worked(own.asked, own.told), (0, 0.0)
            if then is not None:
                less, fewer = worked(then.asked, then.told)
            if seconds > fewer:
                self._tokens, self._seconds = self._tokens + tokens - less, self._seconds + seconds - fewer


def _in_order(placement: Placement, worker: Worker, demands: Sequence[Demand]) -> tuple[str, ...]:
    """Who lives there, those first whose image the device is for."""
    held = holdings(placement, [worker], demands)[worker.name]
    rank = {image: number for number, image in enumerate((*held.device, *held.near))}
    image_of = {own.expert: own.image for own in demands}
    return tuple(sorted(placement.on(worker.name), key=lambda name: (rank[image_of[name]], name)))


async def keep_placed(links: Links, planner: Planner, every_s: float = EVERY_S) -> None:
    """Looks at the workers every so many seconds and tells them who lives on them, until it is cancelled.

    links: of the workers that the planner decides for, open. Where nothing can be decided, all stay as they are, and
    calls go where they can be answered.
    """
    clock = asyncio.get_running_loop().time
    while True:
        up = [link for link in links.up if not link.leaving]
        try:
            if all(link.told for link in up):  # else one is new, or mute and soon lost
                seen = [Seen.of(link) for link in up]
                orders = await asyncio.to_thread(planner.look, seen, clock(), links.there)  # which may take a second
                for link in up:
                    if link.address.worker in orders:
                        link.place(orders[link.address.worker])
        except PlacementError as error:
            logger.warning("experts cannot be placed: %s", error)
        except Exception:  # a fault of the planner is none of the service
            logger.exception("experts are not placed")
        await asyncio.sleep(every_s)
