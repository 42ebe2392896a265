"""Who is admitted next: places shared fairly among keys. Pure: who runs and who waits in, the next one out.

Weighted max-min fairness (D. Bertsekas and R. Gallager, Data Networks, 1992, 6.5.2) by progressive filling: a free
place goes to the waiting key that holds the fewest for its weight. So a key alone may hold them all, and when others
come each gets its share as places are freed; nothing that runs is taken back.

    places 4, weights equal, A has 9 requests, then B comes with 3:   AAAA -> AAAB -> AABB -> (B waits no more) -> AAAB
"""

import itertools
import math
from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits. weight: of its key."""

    caller: str
    weight: float
    number: int = 0


@dataclass(slots=True)
class FairShare:
    """running: caller -> requests that hold a place; queues: caller -> those that wait, oldest first."""

    places: int
    running: Counter[str] = field(default_factory=Counter)
    queues: dict[str, deque[Waiter]] = field(default_factory=dict)
    taken: int = 0  # places, which `running` has by caller
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def waiting(self) -> int:
        return sum(map(len, self.queues.values()))

    @property
    def is_free(self) -> bool:
        """Is there a place, and nobody waits for it?"""
        return self.taken < self.places and not self.queues

    def start(self, caller: str) -> None:
        self.taken += 1
        self.running[caller] += 1

    def end(self, caller: str) -> None:
        self.taken -= 1
        self.running[caller] -= 1
        if not self.running[caller]:
            del self.running[caller]

    def wait(self, waiter: Waiter) -> None:
        waiter.number = next(self._numbers)
        self.queues.setdefault(waiter.caller, deque()).append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """It waits no more, whether it got a place or gave up."""
        queue = self.queues.get(waiter.caller, deque())
        if waiter in queue:
            queue.remove(waiter)
        if not queue:
            self.queues.pop(waiter.caller, None)

    def next(self) -> Waiter | None:
        """Whose turn it is; None while no place is free or nobody waits."""
        if self.taken >= self.places or not self.queues:
            return None
        heads = (queue[0] for queue in self.queues.values())
        return min(heads, key=lambda head: (self.running[head.caller] / head.weight, head.number))

    def heaviest(self, arrival: Waiter) -> Waiter:
        """Who goes if one more wants to wait than can: the newest request of the key that has the most for its weight,
        the arrival itself if that is its own."""

        def load(caller: str, weight: float) -> float:
            own = 1 if caller == arrival.caller else 0
            return (self.running[caller] + len(self.queues.get(caller, ())) + own) / weight

        newest = [queue[-1] for caller, queue in self.queues.items() if caller != arrival.caller]
        return max((arrival, *newest), key=lambda waiter: load(waiter.caller, waiter.weight))

    def ahead(self, caller: str, weight: float) -> int:
        """Places that have to be freed until a request that comes now has one, by the shares that keys have now."""
        own = len(self.queues.get(caller, ()))
        others = sum(queue[0].weight for other, queue in self.queues.items() if other != caller)
        share = weight / (weight + others)
        at_once = max(0, math.floor(share * self.places) - self.running[caller])  # what it lacks, it gets first
        if own < at_once:
            return own + 1
        return min(self.waiting + 1, at_once + math.ceil((own + 1 - at_once) / share))
