"""The hard bound on waiting: when must the engine turn to those that wait, so that none of them waits too long?"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Need(NamedTuple):
    """Seconds. load: until its image is there, once the load begins; late: that may pass then until its turn begins;
    least: of its shortest turn; full: of the turn that it had better have."""

    load: float
    late: float
    least: float
    full: float


class Deadlines:
    """Hungry experts, which have requests and not the turn, each with a deadline for its next one: since + max_wait.

    They are served in order of deadline. While one computes, the image of the next is loaded if the device has room
    for both (`overlap`): turn i begins B_i seconds after the first of these loads, or of these turns,

        B_1 = load_1 + late_1,    B_(i+1) = B_i + max(turn_i, load_(i+1)) + late_(i+1)
        turn = least + f (full - least)

    with a sum in place of the maximum without overlap. If they begin at t, that of i is in time if t + B_i(f) <=
    deadline_i; f in [0, 1] is the share of its wish that each gets. B is convex in f, so B(0) + f (B(1) - B(0)) is on
    the safe side. As long as all are in time with f = 1 nobody is in a hurry. After that the largest f, f(t), falls,
    and the active expert leaves as soon as it has had f(t) of its own wish: those that follow can have as much, and are
    in time.

    A newly hungry expert has the latest deadline of all, and one that leaves gives the others more time. So the moment
    until which there is no hurry is kept in O(1), on the safe side. It is computed in O(n) when it is reached, or after
    what concerns all. `need` tells the need of an expert.
    """

    def __init__(self, max_wait: float, need: Callable[[str], Need]) -> None:
        self._max_wait = max_wait
        self._need = need
        self._overlap = True
        self._since: dict[str, float] = {}
        self._counted: dict[str, Need] = {}
        self._stale = False  # so is all of `_counted`
        self._due: str | None = None
        self._latest = -math.inf  # of `_since`, ever
        self._full_until = math.inf  # f = 1, at least until then, whoever is active
        self._quiet_until = math.inf  # nobody is due, at least until then, in this turn
        self._start, self._wish = 0.0, 0.0
        self._restart()

    def _restart(self) -> None:
        """Nobody is counted."""
        self._ends = 0.0, 0.0  # seconds until the last turn counted so far ends, f = 0 and f = 1; at most
        self._turn = 0.0, 0.0  # of these, that turn

    def oldest(self) -> float:
        """Since when the hungriest one is; inf if none is."""
        return min(self._since.values(), default=math.inf)

    def overlap(self, possible: bool) -> None:
        """Can an image be loaded while another one computes?"""
        if possible != self._overlap:
            self._overlap = possible
            self._forget()

    def turn(self, start: float, wish: float) -> None:
        """A turn that began at `start`, and had better last `wish` seconds; 0: it can end at any time."""
        self._start, self._wish, self._due = start, wish, None
        self._quiet_until = self._full_until

    def add(self, expert: str, since: float) -> None:
        """Hungry from now on, or hungry as before but since a later time."""
        if expert in self._since:
            if since != self._since[expert]:
                self._since[expert] = since
                self._forget()
            return
        self._since[expert] = since
        if since < self._latest:
            self._forget()
        self._latest = max(self._latest, since)
        self._counted[expert] = self._need(expert)
        self._count(expert, self._counted[expert])

    def remove(self, expert: str) -> None:
        """Not hungry any more; no-op if it was not."""
        if self._since.pop(expert, None) is not None:
            del self._counted[expert]
            if not self._since:
                self._restart()
            if self._due == expert:
                self._forget()

    def changed(self, expert: str) -> None:
        """Its need is not what it was; no-op if it is not hungry."""
        if expert not in self._counted:
            return
        old = self._counted[expert]
        new = self._counted[expert] = self._need(expert)
        rise = sum(max(0.0, now - then) for now, then in zip(new, old, strict=True))  # no limit falls by more than this
        self._ends = self._ends[0] + rise, self._ends[1] + rise
        self._full_until -= rise
        self._quiet_until -= rise

    def all_changed(self) -> None:
        """Nobody's need is what it was."""
        self._stale = True
        self._forget()

    def _forget(self) -> None:
        self._due = None
        self._full_until = self._quiet_until = -math.inf

    def due(self, now: float) -> str | None:
        """The expert that must have the next turn, as soon as its image is there; None: nobody is in a hurry."""
        if self._due is None and now >= self._quiet_until:
            self._compute(now)
        return self._due

    def spare(self, now: float) -> float:
        """Seconds by which every deadline would still be met, if turns were as short as can be from now on."""
        spare, ends, turn = math.inf, 0.0, 0.0
        self._refresh()
        for expert in self._in_order():
            need = self._counted[expert]
            begins = self._begins(ends, turn, need)
            spare = min(spare, self._since[expert] + self._max_wait - begins - now)
            ends, turn = begins + need.least, need.least
        return spare

    def _begins(self, ends: float, turn: float, need: Need) -> float:
        """When a turn can begin that follows one of `turn` seconds, which ends at `ends`."""
        hidden = min(turn, need.load) if self._overlap else 0.0
        return ends + need.load - hidden + need.late

    def _refresh(self) -> None:
        if self._stale:
            self._counted = {expert: self._need(expert) for expert in self._counted}
            self._stale = False

    def _in_order(self) -> list[str]:
        return sorted(self._since, key=self._since.__getitem__)

    def _compute(self, now: float) -> None:
        self._refresh()
        order = self._in_order()
        self._restart()
        self._full_until = self._quiet_until = math.inf
        for expert in order:
            self._count(expert, self._counted[expert])
        if now >= self._quiet_until:
            self._due = order[0]

    def _count(self, expert: str, need: Need) -> None:
        """Takes the next one in order of deadline into account."""
        least, full = (self._begins(ends, turn, need) for ends, turn in zip(self._ends, self._turn, strict=True))
        deadline, more = self._since[expert] + self._max_wait, full - least
        quiet = deadline - full
        self._full_until = min(self._full_until, quiet)
        if self._wish > 0.0:  # from f(t) = (deadline - least - t) / more and f(t) = (t - start) / wish
            quiet = max(quiet, ((deadline - least) * self._wish + self._start * more) / (self._wish + more))
        self._quiet_until = min(self._quiet_until, quiet)
        self._ends, self._turn = (least + need.least, full + need.full), (need.least, need.full)
