"""How long a request will wait, from what was seen of the service. Pure: events and the time in, estimates out.

A lane has so many places. While all are taken they are freed at the rate places / mean time that one is held (Little's
law, L = lambda W: J. D. C. Little, Operations Research 9, 1961), so the k-th that waits starts k / rate from now. Of a
request that waited in the lane, behind others in its engine's queue, only the whole time is seen; of n in the lane each
holds a place for places / n of it.
"""

from dataclasses import dataclass

NEW = 0.1
"""Weight of the newest request in the mean."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """at: when the request came; part: of its time in the lane in which it holds a place."""

    at: float
    part: float


@dataclass(slots=True)
class Lane:
    """places: requests that run at a time; None = nobody ever waits here. in_lane: requests that are in it now.

    held_s: mean time that a place is held; None = not known. fast_s: what a fast answer takes.
    """

    places: int | None
    in_lane: int = 0
    held_s: float | None = None
    fast_s: float = 0.0
    _came: float = 0.0  # sum of the times at which those in the lane came

    def begin(self, now: float) -> Ticket:
        """A request comes in. Returns what `end` wants to know of it."""
        self.in_lane += 1
        self._came += now
        return Ticket(now, self._part)

    def end(self, ticket: Ticket, now: float, *, answered: bool) -> None:
        """It is gone. Only answers tell how fast the lane is: what fails may fail at once."""
        self.in_lane -= 1
        self._came = self._came - ticket.at if self.in_lane else 0.0
        if not answered:
            return
        held = (now - ticket.at) * ticket.part
        if self.held_s is None:
            self.held_s = self.fast_s = held
        else:
            self.fast_s = min(held, self.fast_s + NEW * (self.held_s - self.fast_s))
            self.held_s += NEW * (held - self.held_s)

    def rate(self, now: float) -> float | None:
        """Places that are freed per second while all are taken; None as long as nothing is known, or no bound.

        What is in the lane for longer than answers take as a rule slows the estimate before it ends.
        """
        if self.places is None or not self.held_s:
            return None
        age = (now - self._came / self.in_lane) * self._part if self.in_lane else 0.0
        return self.places / max(self.held_s, age)

    def wait_s(self, now: float, ahead: int | None = None) -> float:
        """Seconds until a request that comes now has a place; 0 where nothing is known.

        ahead: which in the queue it would be; by default it is behind all that are in the lane.
        """
        if ahead is None:
            ahead = 0 if self.places is None else max(0, self.in_lane + 1 - self.places)
        rate = self.rate(now)
        return ahead / rate if ahead > 0 and rate else 0.0

    @property
    def _part(self) -> float:
        return 1.0 if self.places is None else min(1.0, self.places / max(1, self.in_lane))
