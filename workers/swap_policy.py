"""Which expert should the engine compute with next? A pure decision: queues and a time in, a name out.

    arrivals  A B C A B C A ...      served  A A A B B C C ...

The engine stays with the active expert while that expert has work and its quantum lasts. The quantum follows from the
one knob, the share of time that swapping may take: quantum = swap cost x (1 / overhead - 1). The next expert is one
whose oldest request has waited longer than `max_wait`, the longest wait first; else the one with the most work per
second of swap cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SwapSettings:
    """overhead: share of time that swapping may take, in (0, 1); max_wait: seconds after which a request goes first."""

    overhead: float = 0.10
    max_wait: float = 30.0

    def quantum(self, swap_cost: float) -> float:
        """Seconds that an expert may keep the engine while others wait, for a swap that takes `swap_cost` seconds."""
        return swap_cost * (1 / self.overhead - 1)


@dataclass(frozen=True, slots=True)
class Demand:
    """What waits for one expert.

    requests: unfinished requests, running ones included.
    served_at: when the longest unserved of them was served last, or arrived; seconds on the clock of `now`.
    swap_cost: seconds to make this expert the active one.
    """

    expert: str
    requests: int
    served_at: float
    swap_cost: float


@dataclass(frozen=True, slots=True)
class Active:
    """The expert the engine computes with, and since when."""

    expert: str
    since: float


def choose(demands: Sequence[Demand], active: Active | None, now: float, settings: SwapSettings) -> str | None:
    """The expert for the next step, or None if nothing waits. Ties go to the earlier demand."""
    if not demands:
        return None
    mine = next((d for d in demands if active is not None and d.expert == active.expert), None)
    others = [d for d in demands if d is not mine]
    if not others:
        return mine.expert if mine else None
    if mine is not None and active is not None:
        cheapest = min(d.swap_cost for d in others)
        if now - active.since < settings.quantum(cheapest):
            return mine.expert
    overdue = [d for d in others if now - d.served_at > settings.max_wait]
    if overdue:
        return min(overdue, key=lambda d: d.served_at).expert
    best = max(others, key=lambda d: d.requests / max(d.swap_cost, 1e-6))
    return best.expert
