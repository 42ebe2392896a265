"""What the swap policy knows: images and their tiers, requests and their order, measured costs. Each event costs
log(n)."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.deadlines import Deadlines, Need
from workers.fair_queue import FairOrder, Key, KeyHeap
from workers.swap_costs import Costs, Credit, Estimate, Tier

HALF_LIFE = 60.0
"""Seconds after which an arrival counts half for an expert's demand."""


@dataclass(frozen=True, slots=True)
class SwapSettings:
    """overhead: share of the time that swapping may take, in (0, 1): the one knob. max_wait: seconds that an expert
    with requests may wait for its turn. pinned: experts whose image is never evicted. Raises ValueError out of
    range."""

    overhead: float = 0.10
    max_wait: float = 30.0
    pinned: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0.0 < self.overhead < 1.0:
            raise ValueError(f"overhead is {self.overhead}; it is a share of the time, above 0 and below 1")
        if not self.max_wait > 0.0:
            raise ValueError(f"max_wait is {self.max_wait} seconds; it must be positive")


@dataclass(slots=True, eq=False)
class Expert:
    """tier: None if it cannot be chosen. home: the tier that it falls to when it is evicted. leaving: is being evicted.

    fresh: seconds of its last load, until a turn follows. demand: log2 of arrivals that decay, plus the time in half
    lives: so it changes with arrivals only. left_at: end of its last turn. arrivals: unfinished request -> its time,
    oldest first. filed: the heap where others find it, and its key there. admitted: seconds, see `SwapState.admits`.
    """

    name: str
    number: int
    pinned: bool
    tier: Tier | None = None
    home: Tier = "host"
    size: int = 0
    leaving: bool = False
    fresh: float | None = None
    demand: float = -math.inf
    left_at: float = -math.inf
    arrivals: OrderedDict[str, float] = field(default_factory=OrderedDict)
    waiting: KeyHeap[str] = field(default_factory=KeyHeap)
    running: KeyHeap[str] = field(default_factory=KeyHeap)
    filed: "tuple[KeyHeap[Expert], Key] | None" = None
    admitted: float = 0.0

    @property
    def resident(self) -> bool:
        return self.tier == "device" and not self.leaving

    @property
    def key(self) -> Key:
        """Of its first waiting request; of its first running one if none waits. Raises ValueError if it has neither."""
        key = self.waiting.least() or self.running.least()
        if key is None:
            raise ValueError(f"expert {self.name} has no requests, so it has no place in the order")
        return key

    @property
    def priority(self) -> int:
        """Of its most urgent request. Raises ValueError if it has none."""
        return min(key[0] for key in (self.waiting.least(), self.running.least()) if key is not None)

    def can_run(self, newest: Key) -> bool:
        """Has it anything to do, if requests later than `newest` do not start?"""
        first = self.waiting.least()
        return len(self.running) > 0 or (first is not None and first <= newest)


def first_of(one: Expert | None, other: Expert | None) -> Expert | None:
    """The one that is first in order."""
    if one is None or other is None:
        return one or other
    return one if one.key < other.key else other


@dataclass(slots=True, eq=False)
class _Request:
    expert: Expert
    key: Key
    running: bool = False


class SwapState:
    """Events in. The experts but the active one are filed by what they are: with requests, by tier, or idle
    residents."""

    def __init__(self, settings: SwapSettings, *, capacity: float = math.inf) -> None:
        self._settings = settings
        self._device = self._capacity = capacity  # bytes of the device, of those the ones for what images have alone
        self._experts: dict[str, Expert] = {}
        self._numbers = itertools.count()
        self._requests: dict[str, _Request] = {}
        self._order = FairOrder()
        self._active: Expert | None = None
        self._queued: dict[Tier, KeyHeap[Expert]] = {"device": KeyHeap(), "host": KeyHeap(), "disk": KeyHeap()}
        self._idle: KeyHeap[Expert] = KeyHeap()  # that may be evicted, the least in demand first
        self._deadlines = Deadlines(settings.max_wait, lambda name: self._need(self._experts[name]))
        self._busy = 0  # experts with requests
        self._admitted: float | None = 0.0  # sum of their `admitted`; None: to be computed anew
        self._used = self._total = self._pinned = 0  # bytes: on the device, of all images, of those that are pinned
        self._largest = 0  # bytes of an image
        self._costs = Costs()
        self._turn_seconds = Estimate()  # of turns that end because nothing is left to run
        self._credit = Credit(settings.overhead)
        self._gain = 1.0 / settings.overhead - 1.0  # seconds of work that a second of swapping must be followed by
        self._now = -math.inf

    # Images

    def place(self, expert: str, tier: Tier, size: int) -> None:
        """An image is known, or has moved: this ends its load or its eviction. size: its bytes.

        Raises ValueError if the device cannot hold it beside those that are pinned.
        """
        e = self._known(expert)
        rest = self._pinned - (e.size if e.pinned and e.tier is not None else 0)
        if size + rest > self._capacity:
            beside = f" beside {rest} bytes of pinned images" if rest else ""
            raise ValueError(
                f"the image of {expert} has {size} bytes, the device holds {self._capacity:.0f}{beside}: "
                "raise the device's budget, or pin less"
            )
        self._account(e, tier, size)
        if tier != "device":
            e.leaving = False
        self._refile(e)

    def resize(self, sizes: Mapping[str, int], shared: int) -> None:
        """Images were measured. sizes: bytes that each has alone; shared: those that several of them have in common,
        which are on the device as long as any of these is."""
        for expert, size in sizes.items():
            e = self._known(expert)
            if size != e.size:
                self._account(e, e.tier, size)
                self._refile(e)
        self._capacity = max(self._device - shared, self._pinned + self._largest)  # one more is always possible
        self._deadlines.overlap(self._pinned + 2 * self._largest <= self._capacity)
        self._admitted = None

    def remove(self, expert: str) -> None:
        """An image failed: its expert is not chosen until it is placed again. Its requests stay until they finish."""
        e = self._experts[expert]
        self._account(e, None, e.size)
        e.leaving = False
        self._refile(e)

    def forget(self, expert: str) -> None:
        """There is no such image any more. Of its requests nothing is asked but that they finish. No-op if unknown."""
        e = self._experts.get(expert)
        if e is None:
            return
        self._account(e, None, 0)
        e.leaving = False
        self._refile(e)
        del self._experts[expert]
        self._largest = max((other.size for other in self._experts.values()), default=0)

    def pin(self, pinned: frozenset[str]) -> None:
        """These are the images that are never evicted from now on."""
        self._settings = replace(self._settings, pinned=pinned)
        for e in self._experts.values():
            if e.pinned != (e.name in pinned):
                e.pinned = not e.pinned
                if e.tier is not None:
                    self._pinned += e.size if e.pinned else -e.size
                self._refile(e)
        self._deadlines.overlap(self._pinned + 2 * self._largest <= self._capacity)

    def _known(self, expert: str) -> Expert:
        e = self._experts.get(expert)
        if e is None:
            e = self._experts[expert] = Expert(expert, next(self._numbers), expert in self._settings.pinned)
        return e

    def _account(self, e: Expert, tier: Tier | None, size: int) -> None:
        if tier == e.tier and size == e.size:
            return
        for its_tier, its_size in ((e.tier, -e.size), (tier, size)):
            if its_tier is not None:
                self._total += its_size
                self._pinned += its_size if e.pinned else 0
                self._used += its_size if its_tier == "device" else 0
        e.tier, e.size = tier, size
        if tier is not None and tier != "device":
            e.home = tier
        self._largest = max(self._largest, size)
        self._credit.cap = self._costs.dearest(self._largest)
        self._admitted = None
        self._deadlines.overlap(self._pinned + 2 * self._largest <= self._capacity)
        self._deadlines.changed(e.name)

    # Costs

    def cost(self, expert: str) -> float:
        """Estimated seconds to make it the active one now."""
        return self._cost(self._experts[expert])

    def swapped(self, seconds: float) -> None:
        """An activation took so long."""
        self._credit.pay(seconds)
        if self._costs.activation.add(seconds):
            self._estimates_moved()

    def loaded(self, expert: str, source: Tier, seconds: float) -> None:
        """A load took so long. Raises ValueError if it came from the device."""
        if source == "device":
            raise ValueError(f"the image of {expert} was loaded from the device; it can come from host or disk")
        e = self._experts[expert]
        e.home, e.fresh = source, seconds
        if self._costs.loaded(source, e.size, seconds):
            self._estimates_moved()

    def stepped(self, now: float, seconds: float) -> None:
        """A step of the active expert took so long, and ended now."""
        if self._costs.step.add(seconds):
            self._estimates_moved()

    def _estimates_moved(self) -> None:
        self._credit.cap = self._costs.dearest(self._largest)
        self._deadlines.all_changed()
        self._admitted = None

    def _earn(self, now: float) -> None:
        if self._busy and now > self._now > -math.inf:
            self._credit.earn(now - self._now)
        self._now = max(self._now, now)

    def _cost(self, e: Expert) -> float:
        return self._costs.activation.value + (0.0 if e.resident else self._reload_cost(e))

    def _reload_cost(self, e: Expert) -> float:
        return self._costs.load(e.home, e.size)

    def _shortest(self) -> float:
        """Seconds of a turn of one step."""
        return self._costs.activation.value + self._costs.step.value

    def _wish(self, cost: float) -> float:
        """Seconds that a turn had better last: its quantum, or no longer than turns take to run out of work."""
        quantum = self._gain * cost
        return min(quantum, self._turn_seconds.value) if self._turn_seconds.known else quantum

    def _need(self, e: Expert) -> Need:
        shortest, wish = self._shortest(), self._wish(self._cost(e) + (e.fresh or 0.0))
        late = 0.0 if e.resident else shortest  # when its image has come, a step of another turn may be under way
        return Need(0.0 if e.resident else self._reload_cost(e), late, shortest, shortest + wish)

    # Requests

    def arrive(self, request: str, expert: str, now: float, *, priority: int = 0, caller: str = "") -> Key:
        """A request of an expert, placed or not; lower priorities go first. Raises ValueError if its id is in use."""
        if request in self._requests:
            raise ValueError(f"request {request} has not finished; another one needs another id")
        self._earn(now)
        e = self._known(expert)
        key = self._order.key(caller, priority)
        self._requests[request] = _Request(e, key)
        e.waiting.add(key, request)
        e.arrivals[request] = now
        age = now / HALF_LIFE
        e.demand = age + math.log2(1.0 + 2.0 ** (e.demand - age))
        if len(e.arrivals) == 1:
            self._busy += 1
            self._admit(e, self._worst(e))
        self._refile(e)
        return key

    def start(self, request: str) -> None:
        """It is in a batch, for the first time or again. Raises KeyError if it is unknown."""
        r = self._requests[request]
        if not r.running:
            r.running = True
            r.expert.waiting.discard(r.key)
            r.expert.running.add(r.key, request)
            self._order.started(r.key)
            self._refile(r.expert)

    def requeue(self, request: str) -> None:
        """Preempted: it waits again, in its old place. Raises KeyError if it is unknown."""
        r = self._requests[request]
        if r.running:
            r.running = False
            r.expert.running.discard(r.key)
            r.expert.waiting.add(r.key, request)
            self._refile(r.expert)

    def finish(self, request: str) -> None:
        """Finished or aborted, whatever its state; no-op if it is unknown."""
        r = self._requests.pop(request, None)
        if r is None:
            return
        e = r.expert
        (e.running if r.running else e.waiting).discard(r.key)
        del e.arrivals[request]
        if not e.arrivals:
            self._busy -= 1
            self._admit(e, 0.0)
        self._refile(e)

    def admits(self, expert: str) -> bool:
        """May a request of it come? Always while it has others. Else if `max_wait` is enough for a shortest turn of
        each expert with requests, and of this one."""
        e = self._known(expert)
        if e.arrivals:
            return True
        if self._admitted is None:
            self._admitted = 0.0
            for other in self._experts.values():
                if other.arrivals:
                    other.admitted = self._worst(other)
                    self._admitted += other.admitted
        return self._admitted + self._worst(e) <= self._settings.max_wait

    def _worst(self, e: Expert) -> float:
        """Seconds of its shortest turn. Where not all images fit, it may have lost its own by then."""
        away = not e.resident or self._total > self._capacity
        return (self._reload_cost(e) + self._shortest() if away else 0.0) + self._shortest()

    def _admit(self, e: Expert, seconds: float) -> None:
        if self._admitted is not None:
            self._admitted += seconds - e.admitted
        e.admitted = seconds
        if not self._busy:
            self._admitted = 0.0  # without what rounding left

    def _refile(self, e: Expert) -> None:
        """After any change of an expert: puts it where others look for it."""
        filed: tuple[KeyHeap[Expert], Key] | None = None
        if e.tier is None or e is self._active or not e.arrivals:
            self._deadlines.remove(e.name)
            if e.resident and e is not self._active and not e.pinned:
                price = math.log2(max(self._reload_cost(e), 1e-9) / max(e.size, 1))
                filed = self._idle, (0, e.demand + price, -e.number)
        else:
            self._deadlines.add(e.name, max(e.left_at, next(iter(e.arrivals.values()))))
            if not e.leaving:
                filed = self._queued[e.tier], e.key
        if filed != e.filed:
            if e.filed is not None:
                e.filed[0].discard(e.filed[1])
            if filed is not None:
                filed[0].add(filed[1], e)
            e.filed = filed

    # For metrics

    @property
    def credit(self) -> float:
        """Seconds of swapping that may be spent now; below 0: spent in advance."""
        return self._credit.left

    def oldest_wait(self, now: float) -> float:
        """Seconds that the hungriest expert has waited for its turn."""
        return max(0.0, now - self._deadlines.oldest())

    def counts(self) -> dict[str, tuple[int, int]]:
        """Expert -> its requests, waiting and running, for those that have any."""
        return {e.name: (len(e.waiting), len(e.running)) for e in self._experts.values() if e.arrivals}

    def report(self, now: float) -> dict[str, Any]:
        """Fields of `workers.base.WorkerStats` that only the policy knows."""
        return {"oldest_wait": self.oldest_wait(now)}
