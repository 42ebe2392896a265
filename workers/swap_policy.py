"""Which expert computes next, and which images are on the device.

A pure state machine: events and a time in, decisions out.

    arrivals  A B C A B C A ...      served  A A A B B C C ...

* **Turns.** The active expert keeps the engine while it has work. Once its quantum, cost of its swap x (1/overhead -
  1), is over and others wait, it is drained: what is later in order than the others' first request does not start.
* **Next** is the first in order (`workers.fair_queue`) of the resident experts and of those whose load the credit can
  pay. So residents go first while the budget for swapping is used up, and the others collect requests.
* **The bound.** Experts that must have a turn to keep `max_wait` go before (`workers.deadlines`).
* **Loads** run beside the steps. Room is made by images without requests, the least in demand first, then by those
  whose turn is furthest in order: requests are routed before they are admitted, so the queue is the future.

Swaps are never more than those of first come, first served, if all images cost the same, one caller asks, the bound
does not bind, and either all images are resident or only one fits. Proof: a turn begins with the oldest request r that
was not served, and first come, first served swaps once for each maximal run of one expert in the order of arrival. Let
two turns of expert E begin with r and, later, r'. When the first one ended, a request g of another expert was waiting,
and r' was not there yet or later than g. So g came before r', and after r, which was the oldest: r and r' are of
different runs. Hence no two turns begin in one run.
"""

import math
from dataclasses import dataclass

from workers.fair_queue import Key
from workers.swap_costs import Tier
from workers.swap_state import Expert, SwapSettings, SwapState, first_of

__all__ = ["Decision", "Key", "SwapPolicy", "SwapSettings", "Tier"]


@dataclass(frozen=True, slots=True)
class Decision:
    """expert: whose requests compute in this step; None: nothing can.

    newest: requests of `expert` with a later key do not start. load: the image to be loading beside the step; None:
    none, and one under way is given up. evict: images to drop from the device for the load; never that of `expert`.
    forced: `max_wait` forced this switch, or the load.
    """

    expert: str | None
    newest: Key | None
    load: str | None
    evict: tuple[str, ...]
    forced: bool


class SwapPolicy(SwapState):
    """Is told of images, requests and measured costs, and asked before each step. The caller carries the decision out,
    and tells what came of it. capacity: bytes of images that the device holds."""

    def __init__(self, settings: SwapSettings, *, capacity: float = math.inf) -> None:
        super().__init__(settings, capacity=capacity)
        # The turn.
        self._began = 0.0
        self._quantum = 0.0  # seconds
        self._wished = 0.0  # seconds, see `workers.deadlines`
        self._progress = False  # a step of it is done
        self._working_since: float | None = None  # None: the active expert had nothing to do when last looked at
        # The load.
        self._load: Expert | None = None
        self._victims: tuple[Expert, ...] = ()
        self._forced = False

    # Events

    def place(self, expert: str, tier: Tier, size: int) -> None:
        super().place(expert, tier, size)
        if tier == "device" and self._load is self._experts[expert]:
            self._stop_loading()

    def remove(self, expert: str) -> None:
        super().remove(expert)
        if self._load is self._experts[expert]:
            self._stop_loading()
        if self._active is self._experts[expert]:
            self._leave()

    def forget(self, expert: str) -> None:
        if expert in self._experts:
            self.remove(expert)
        super().forget(expert)

    def loaded(self, expert: str, source: Tier, seconds: float) -> None:
        super().loaded(expert, source, seconds)
        if self._load is self._experts[expert]:
            self._credit.pay(seconds)

    def stepped(self, now: float, seconds: float) -> None:
        super().stepped(now, seconds)
        self._progress = True

    # Deciding

    def decide(self, now: float) -> Decision:
        """What to do now. Changes the state: it counts as carried out. `now` never goes back."""
        self._earn(now)
        self._settle(now)
        working = self._active if self._active is not None and self._active.arrivals else None
        over = working is None or now - self._began > self._quantum
        due = self._due(now, working)
        ready = self._queued["device"].first()
        cold = self._affordable()
        if working is None and ready is None and cold is None:  # else the engine would idle
            cold = first_of(self._queued["host"].first(), self._queued["disk"].first())
        following = due or first_of(ready, cold)

        if working is not None and due is None:
            newest = following.key if following is not None and over else None
            if newest is None or (working.can_run(newest) and newest[0] >= working.priority):
                if cold is not None:
                    self._prepare(cold, now, busy=over and cold is following)
                return self._decision(working, newest)
        if following is None:
            return self._decision(None)
        forced = due is not None
        if following.resident:
            self._begin(following, now, forced=forced)
            if cold is not None:
                self._prepare(cold, now)
            return self._decision(following, forced=forced)

        # Its image must be loaded. Meanwhile those compute that are on the device, the active one first.
        stays = working is not None and (forced or ready is None or working.key < ready.key)
        if stays and self._prepare(following, now, busy=True, forced=forced):
            ready = self._queued["device"].first()
            return self._decision(working, None if forced or ready is None else ready.key)
        self._end_turn(now, forced=forced)  # its image can make room now
        if ready is not None and self._can_stay(ready, following, now, forced=forced):
            self._begin(ready, now, forced=forced)
            self._prepare(following, now, busy=True, forced=forced, must=forced)
            return self._decision(ready)
        self._prepare(following, now, busy=True, forced=forced, must=True)
        left = self._queued["device"].first()  # after those that make room
        if left is not None:
            self._begin(left, now, forced=forced)
        return self._decision(left)

    def _settle(self, now: float) -> None:
        """Takes note of what has become of the turn and the load since the last decision."""
        if self._load is not None and not self._load.arrivals:
            self._stop_loading()
        active = self._active
        if active is None:
            return
        if not active.resident:
            self._end_turn(now, forced=True)
        elif not active.arrivals and self._working_since is not None:
            self._turn_seconds.add(now - self._working_since)
            self._working_since = None
            self._deadlines.turn(now, 0.0)
        elif active.arrivals and self._working_since is None:
            self._continue_turn(now)

    def _due(self, now: float, working: Expert | None) -> Expert | None:
        """The expert that must be next, once the active one has had its least turn."""
        if working is not None and not self._progress and now - self._began < self._costs.step.value:
            return None
        name = self._deadlines.due(now)
        return None if name is None else self._experts[name]

    def _affordable(self) -> Expert | None:
        """The first in order of those that are not on the device and whose load is under way or covered by the credit.

        Of each tier only the first is looked at: a large image is not passed over for ever.
        """
        best = self._load
        for queue in (self._queued["host"], self._queued["disk"]):
            e = queue.first()
            if e is not None and self._cost(e) <= self._credit.left:
                best = first_of(best, e)
        return best

    def _decision(self, expert: Expert | None, newest: Key | None = None, *, forced: bool = False) -> Decision:
        name = None if expert is None else expert.name
        load = None if self._load is None else self._load.name
        evict = tuple(victim.name for victim in self._victims if victim.leaving)
        return Decision(name, newest, load, evict, forced or self._forced)

    # Turns

    def _begin(self, e: Expert, now: float, *, forced: bool) -> None:
        self._end_turn(now, forced=forced)
        self._active = e
        self._refile(e)
        self._start_turn(e, now)

    def _start_turn(self, e: Expert, now: float) -> None:
        cost = self._costs.activation.value + (e.fresh or 0.0)
        e.fresh = None
        self._quantum, self._wished = self._gain * cost, self._wish(cost)
        self._continue_turn(now)

    def _continue_turn(self, now: float) -> None:
        """Begins a turn for which no swap is needed: work came for the active expert."""
        self._began = self._working_since = now
        self._progress = False
        self._deadlines.turn(now, self._wished)

    def _end_turn(self, now: float, *, forced: bool) -> None:
        if self._active is None:
            return
        self._active.left_at = now
        if self._working_since is not None:
            seconds = now - self._working_since
            if not forced:  # one cut short does not tell how long turns take
                self._turn_seconds.add(seconds)
        self._leave()

    def _leave(self) -> None:
        """Nobody is the active one any more."""
        e, self._active = self._active, None
        if e is not None:
            self._refile(e)

    # Loads

    def _prepare(self, e: Expert, now: float, *, busy: bool = False, forced: bool = False, must: bool = False) -> bool:
        """Loads an image beside the steps; but a load under way goes on, unless this one is forced.

        False if there is no room. busy, must: see `_room`.
        """
        if self._load is e or (self._load is not None and not forced):
            self._forced = self._forced or forced
            return True
        self._stop_loading()
        victims = self._room(e, now, busy=busy, forced=forced, must=must)
        if victims is None:
            return False
        self._load, self._victims, self._forced = e, tuple(victims), forced
        for victim in victims:
            self._set_leaving(victim, True)
        return True

    def _stop_loading(self) -> None:
        """The load has ended or is given up. Victims that are still there may stay."""
        victims, self._victims = self._victims, ()
        self._load, self._forced = None, False
        for victim in victims:
            if victim.leaving:
                self._set_leaving(victim, False)

    def _set_leaving(self, e: Expert, leaving: bool) -> None:
        e.leaving = leaving
        self._deadlines.changed(e.name)
        self._refile(e)

    def _can_stay(self, ready: Expert, e: Expert, now: float, *, forced: bool) -> bool:
        """May this resident compute while `e` is loaded, rather than make room for it?"""
        if self._room(e, now, busy=True, forced=forced, must=True, keep=ready) is not None:
            return True
        return not forced and self._room(e, now, busy=True, forced=False, must=False) is None

    def _room(
        self, e: Expert, now: float, *, busy: bool, forced: bool, must: bool, keep: Expert | None = None
    ) -> list[Expert] | None:
        """The images to evict for `e`: as few as needed, in order of preference. None if all that may go are not
        enough.

        busy: images with requests may go: first the one whose turn is furthest in order, those with paused requests
        last. Not, unless `e` is forced, one that was loaded for a turn that it has not had; and only if every deadline
        is met although they must be loaded again. must: whatever comes of it. keep: stays.
        """
        missing = self._used + e.size - self._capacity
        if missing <= 0:
            return []
        chosen: list[Expert] = []
        for victim in self._idle.in_order():
            if missing > 0:
                chosen.append(victim)
                missing -= victim.size
        if missing > 0 and busy:
            reload = 0.0
            others = [x for x in reversed(self._queued["device"].in_order()) if not x.pinned and x is not keep]
            for victim in sorted(others, key=lambda other: len(other.running) > 0):
                if missing > 0:
                    if not forced and victim.fresh is not None:
                        return None
                    chosen.append(victim)
                    missing -= victim.size
                    reload += self._reload_cost(victim)
            if not must and missing <= 0 and self._deadlines.spare(now) < reload:
                return None
        if missing > 0:
            return None
        for victim in tuple(chosen):
            if victim.size <= -missing:
                chosen.remove(victim)
                missing += victim.size
        return chosen
