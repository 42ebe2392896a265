"""Which experts can answer now and how long their loads take: from what workers say, and from what was seen to fail."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from experts.registry import Registry
from orchestrator.access.breaker import Breaker, Rules
from orchestrator.access.breaker import State as Circuit
from orchestrator.events import READY_TIERS
from routers.policies.base import State
from workers.base import Failure, WorkerStats

Stats = Mapping[str, WorkerStats | str]
"""Family -> its worker's stats, or why there are none."""

FRESH_S = 1.0
"""How old what the workers said may be before they are asked again. No request waits for that but the first."""
FIRST_S = 1.0
"""How long the first request waits for the workers' first answer."""
DOUBT_S = 10.0
"""How long an expert is in doubt after it failed; what the worker says of it may come later."""

_OF_EXPERT, _OF_FAMILY = ("expert_unavailable",), ("engine_died",)
_OF_PROVIDER = ("expert_unavailable",)
"""Failures of a remote expert that are its provider's: not what the request or its deadline brought about."""


class ExpertStates:
    """The state of the service for routing. It belongs to one event loop.

    stats: asks the workers; never raises. now: a clock in seconds. rules: of the breakers, one for each remote expert.
    former: whose breakers go on, of experts that are the same.
    """

    def __init__(
        self,
        registry: Registry,
        stats: Callable[[], Awaitable[Stats]],
        *,
        now: Callable[[], float] = time.monotonic,
        rules: Rules | None = None,
        former: "ExpertStates | None" = None,
    ) -> None:
        known = {} if former is None else former._of_same(registry)
        self._breakers = {spec.name: known.get(spec.name, Breaker()) for spec in registry if spec.kind == "remote"}
        for breaker in self._breakers.values():
            breaker.rules = rules or Rules()
        self._registry, self._stats, self._now = registry, stats, now
        self._said: State | None = None
        self._at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._seen: dict[str, tuple[float, str]] = {}  # expert -> (until when in doubt, why)

    def _of_same(self, registry: Registry) -> dict[str, Breaker]:
        """The breakers of experts that are in that registry as they are in this one."""
        return {
            spec.name: self._breakers[spec.name]
            for spec in registry
            if spec.name in self._breakers and spec == self._registry.get(spec.name)
        }

    async def known(self) -> State:
        """What is known, at most about FRESH_S old while requests come. Waits only as long as nothing is known."""
        if self._asking is None and self._now() - self._at >= FRESH_S:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        if self._said is None and self._asking is not None:
            await asyncio.wait([self._asking], timeout=FIRST_S)
        said, now = self._said or State(), self._now()
        self._seen = {expert: doubt for expert, doubt in self._seen.items() if doubt[0] > now}
        seen = {expert: why for expert, (_, why) in self._seen.items()}
        broken = {name: why for name, breaker in self._breakers.items() if (why := breaker.problem(now))}
        return State({**said.failed, **broken}, {**said.doubtful, **seen}, said.load_s)

    def circuit(self, expert: str) -> Circuit | None:
        """The state of a remote expert's breaker; None for any other expert."""
        breaker = self._breakers.get(expert)
        return breaker.state(self._now()) if breaker else None

    def enter(self, expert: str) -> str | None:
        """A request to `expert` is to begin: None if it may, and then `left` must follow; else why not."""
        breaker = self._breakers.get(expert)
        return breaker.enter(self._now()) if breaker else None

    def left(self, expert: str) -> None:
        """A request that `enter` let through has ended, however it did."""
        if breaker := self._breakers.get(expert):
            breaker.left()

    def failed(self, expert: str, failure: Failure) -> None:
        """A request to `expert` failed. What is the request's own fault says nothing about the expert."""
        if failure.code in _OF_FAMILY:
            family = self._registry.get(expert).family_name
            those = [spec.name for spec in self._registry.families()[family]]
        else:
            those = [expert] if failure.code in _OF_EXPERT else []
        self._seen |= dict.fromkeys(those, (self._now() + DOUBT_S, failure.message))
        if failure.code in _OF_PROVIDER and (breaker := self._breakers.get(expert)):
            breaker.failed(self._now())

    def answered(self, expert: str) -> None:
        """`expert` has answered a request, so it is in doubt no more."""
        self._seen.pop(expert, None)
        if breaker := self._breakers.get(expert):
            breaker.answered()

    async def drain(self) -> None:
        """Waits for the workers' answer if they are being asked."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        try:
            self._said = said(self._registry, await self._stats())
        finally:
            self._at, self._asking = self._now(), None


def said(registry: Registry, stats: Stats) -> State:
    """What the workers' stats mean for each expert.

    "failed: <why>" is a failure; an engine that starts, or a worker that does not answer, is a doubt. A load takes what
    loads from the expert's tier took on average, else what wakes of its family did; nothing if neither was measured.
    """
    failed: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    load_s: dict[str, float] = {}
    for spec in registry:
        worker = stats.get(spec.family_name, "the worker of its family does not run")
        if isinstance(worker, str):
            doubtful[spec.name] = worker
            continue
        tier = worker.tiers.get(spec.name, "not loaded yet")
        if tier.startswith("failed"):
            failed[spec.name] = tier.removeprefix("failed: ")
        elif tier not in READY_TIERS:
            doubtful[spec.name] = tier
        elif tier in ("host", "disk") and (seconds := _load_seconds(worker, tier)):
            load_s[spec.name] = seconds
    return State(failed, doubtful, load_s)


def _load_seconds(worker: WorkerStats, tier: str) -> float:
    if loads := worker.loads.get(tier, 0):
        return worker.moved_seconds.get(tier, 0.0) / loads
    return worker.wake_seconds / worker.wakes if worker.wakes else 0.0
