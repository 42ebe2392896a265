"""Keeps the experts of some workers placed: what they told in, who is to live where out.

The workers themselves hold the placement: each is told who lives on it (`workers.channel.frames.Place`), and tells that
to whoever asks for its stats, with what was asked of each expert. So every gateway learns it from those whom it calls,
and whoever plans needs no memory of its own but of the last windows: it may die and be started anew.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from experts.spec import ExpertSpec
from orchestrator.placement.model import CoSelection, Demand, Placement, PlacementError, Worker
from orchestrator.placement.replan import Bounds, replan
from workers.channel.client import Links, NoStats

Asked = Mapping[str, tuple[int, int]]
"""Expert -> calls that came and tokens of answers that ended, since a worker's start."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker told. node: the machine that it is on."""

    worker: str
    node: str
    placed: frozenset[str]
    asked: Asked


class Sizes(Protocol):
    def __call__(self, spec: ExpertSpec) -> float: ...


def unasked(specs: Iterable[ExpertSpec], size: Sizes, seconds_per_byte: float) -> tuple[Demand, ...]:
    """The experts that have weights, of whom nothing is known yet: as if all were asked alike, and little.

    size: bytes of the image, or of an adapter's own weights. seconds_per_byte: of a load, measured or assumed.
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


@dataclass(slots=True)
class Planner:
    """Decides for workers of equal kind.

    known: see `unasked`. families: that the workers serve; speed, device: see `Worker`. window_s: seconds of a window.
    together: who answers the same requests, if it is known.
    """

    known: Sequence[Demand]
    families: tuple[str, ...]
    speed: float
    device: float
    window_s: float = 60.0
    bounds: Bounds = field(default_factory=Bounds)
    together: Sequence[CoSelection] = ()
    _windows: deque[tuple[Demand, ...]] = field(default_factory=deque)
    _began: tuple[float, dict[str, Asked]] | None = None
    _last: tuple[Seen, ...] | None = None

    def look(self, seen: Sequence[Seen], now: float) -> dict[str, frozenset[str]]:
        """Worker -> the experts that it is to be told live on it; those that need be told nothing are left out.

        seen: the workers that are up; now: seconds of any clock. Raises PlacementError.
        """
        new = self._close_window(seen, now)
        here = tuple(replace(own, asked={}) for own in sorted(seen, key=lambda own: own.worker))
        if not seen or not self.known or not (new or here != self._last):
            return {}
        self._last = here
        workers = [Worker(own.worker, own.node, self.families, self.speed, self.device) for own in here]
        current = Placement({own.expert: tuple(w.worker for w in here if own.expert in w.placed) for own in self.known})
        # Between windows only what is missing is looked for.
        windows = list(self._windows)[0 if new else -1 :] or [tuple(self.known)]
        change = replan(current, workers, windows, self.together, self.bounds)
        if change is None:
            return {}
        logger.info(
            "experts are placed anew: missing %s, shifted %s, %d loads of %.0f s",
            *(change.missing, change.shifted, len(change.loads), change.seconds),
        )
        wanted = {own.worker: frozenset(change.placement.on(own.worker)) for own in here}
        return {own.worker: wanted[own.worker] for own in here if wanted[own.worker] != own.placed}

    def _close_window(self, seen: Sequence[Seen], now: float) -> bool:
        counted: dict[str, Asked] = {own.worker: dict(own.asked) for own in seen}
        if self._began is None:
            self._began = now, counted
            return False
        since, before = self._began
        if now - since < self.window_s:
            return False
        self._began = now, counted
        self._windows.append(asked_since(self.known, before, counted, now - since))
        while len(self._windows) > self.bounds.windows:
            self._windows.popleft()
        return True


async def keep_placed(links: Links, planner: Planner, every_s: float = 5.0) -> None:
    """Looks at the workers every so many seconds and tells them who lives on them, until it is cancelled.

    links: of the workers that the planner decides for, open.
    """
    clock = asyncio.get_running_loop().time
    while True:
        try:
            await links.stats()
            up = [link for link in links.up if not link.leaving]
            seen = [Seen(own.address.worker, own.address.host, own.placed, own.asked) for own in up]
            orders = planner.look(seen, clock())
            for link in up:
                if link.address.worker in orders:
                    link.place(orders[link.address.worker])
        except NoStats:
            logger.debug("no worker is up to be placed on")
        except PlacementError as error:  # all stay as they are; calls go where they can be answered
            logger.warning("experts cannot be placed: %s", error)
        await asyncio.sleep(every_s)
