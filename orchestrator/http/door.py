"""Who is let in, while more come than the gateway itself can see to. Pure: requests and turns of its event loop in, yes
or no out.

A request is turned away at the door while
* `room` requests are inside, as many as run and wait: one more would be refused behind the door, at the full price. So
  it must not be larger: each that is let in for nothing makes room for the next such one;
* those in the hall are `wait_s` seconds of work for the gateway. In the hall are the ones that came since its event
  loop last went round quickly, and have not ended: in a quick turn next to nothing is left to be done, so whoever was
  inside then waited for somebody else, such as an engine.

Either bound is shared among the keys that are there: a key that has less than its share gets in, whoever else floods.
"""

import math
import re
import sys
from collections import Counter
from dataclasses import dataclass, field

QUICK_S = 0.005
"""A turn of the event loop that is shorter has seen to a few requests at most."""
MEMORY = 512
"""Requests over which the gateway's work for one is averaged."""
KNOWN = 64
"""Requests that must have ended under load before that mean is believed."""
FLOOR = 256
"""Requests that the hall always takes: neither a long pause of the process nor a slow machine shuts out a few."""
LONGEST_S = 60
"""The longest time after which a caller is told to try again."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A request that can be answered without a parser: where it ends is beyond doubt, and it is alone.

    key: stands for the caller, as `key_of` makes it. makes_work: would it run? missing: bytes of its body to come.
    """

    key: int
    makes_work: bool
    missing: int


_LINE = re.compile(rb"(POST|GET|DELETE|PATCH) /v1/[!-~]* HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n")
_KEPT = re.compile(rb"\r\nconnection: *keep-alive\r\n")
_UNPLAIN = re.compile(rb"\n(?:transfer-encoding|expect|upgrade|origin|trailer|te|[ \t])")
"""Framing by other means, more than one answer, headers for a page of another origin, and lines that are continued."""


def plain(data: bytes) -> Plain | None:
    """What came on a connection on which nothing is under way, if that is plain. It costs a few microseconds."""
    end = data.find(b"\r\n\r\n") + 2
    line = _LINE.match(data)
    if line is None or end < 2:
        return None
    head = data[:end].lower()
    if head.count(b"\n") != head.count(b"\r\n") or _UNPLAIN.search(head):
        return None
    if (named := head.count(b"connection")) and (named != 1 or not _KEPT.search(head)):
        return None
    length = 0
    if named := head.count(b"content-length"):
        found = _LENGTH.search(head)
        if named != 1 or found is None:
            return None
        length = int(found[1])
    missing = length - (len(data) - end - 2)
    if missing < 0:
        return None  # there is another one behind it
    at = head.find(b"\r\nauthorization:")
    key = data[at + 16 : data.index(b"\r\n", at + 16)] if at >= 0 else b""
    return Plain(key_of(key), line[1] == b"POST", missing)


def key_of(authorization: bytes) -> int:
    """Stands for the caller inside of the door. It is of no use elsewhere: Python salts it for each process."""
    return hash(authorization.strip())


@dataclass(slots=True)
class Crowd:
    """Requests that are somewhere, by key."""

    by_key: Counter[int] = field(default_factory=Counter)
    total: int = 0

    def come(self, key: int) -> None:
        self.by_key[key] += 1
        self.total += 1

    def go(self, key: int) -> None:
        self.total -= 1
        self.by_key[key] -= 1
        if not self.by_key[key]:
            del self.by_key[key]

    def takes(self, key: int, bound: int) -> bool:
        """Over the bound only those get in that have less than their share of it, and never more than it once more."""
        if self.total < bound:
            return True
        own = self.by_key.get(key, 0)
        return self.total < 2 * bound and own < bound // (len(self.by_key) + (own == 0))


@dataclass(frozen=True, slots=True)
class Ticket:
    """Of a request that is inside. turn: the last quick one before it came."""

    key: int
    turn: int


@dataclass(slots=True)
class Door:
    """room: requests that may be inside. wait_s: seconds that one may wait for the gateway's own work.

    is_shut: is anybody turned away? refused: how many were, ever. work_s: mean seconds of the gateway's work for a
    request while it had nothing but work to do; None = not known.
    """

    room: int
    wait_s: float
    inside: Crowd = field(default_factory=Crowd)
    hall: Crowd = field(default_factory=Crowd)
    is_shut: bool = False
    refused: int = 0
    work_s: float | None = None
    hall_bound: int = sys.maxsize  # requests that the hall takes
    rate: float = 0.0  # requests that end per second, lately
    _turn: int = 0
    _worked_s: float = 0.0  # of it, for `_worked` requests
    _worked: float = 0.0
    _since: float = 0.0  # when it last went round quickly, or such a time was last added to `_worked_s`
    _ended: int = 0  # since then
    _told: float = 0.0  # when `turned` was last called
    _ended_lately: int = 0  # since then

    def refuses(self, key: int, makes_work: bool) -> bool:
        """Is a request turned away that comes now? One that makes no work to run may come while that has no room."""
        if not self.is_shut:
            return False
        taken = self.hall.takes(key, self.hall_bound) and (not makes_work or self.inside.takes(key, self.room))
        self.refused += not taken
        return not taken

    def enter(self, key: int) -> Ticket:
        self.inside.come(key)
        self.hall.come(key)
        self._judge()
        return Ticket(key, self._turn)

    def leave(self, ticket: Ticket) -> None:
        """It has ended, however it did."""
        self.inside.go(ticket.key)
        if ticket.turn == self._turn:
            self.hall.go(ticket.key)
        self._ended += 1
        self._ended_lately += 1
        self._judge()

    def turned(self, now: float, turn_s: float) -> None:
        """The event loop took so long to go round once. To be told a few times a second."""
        passed = now - self._told
        self.rate += (self._ended_lately / passed - self.rate) * min(1.0, passed) if passed > 0 else 0.0
        self._told, self._ended_lately = now, 0
        if turn_s < QUICK_S:
            self._turn += 1
            self.hall = Crowd()
            self._since, self._ended = now, 0
        elif self._ended and self._ended >= self.hall.total:
            # As many have ended as are under way: what was done for either is the same, so it was done for the former.
            self._learn(now - self._since, self._ended)
            self._since, self._ended = now, 0
        self._judge()

    @property
    def retry_after(self) -> int:
        """Whole seconds in which as many requests end as are inside (Little's law), at the rate of late."""
        return min(LONGEST_S, max(1, math.ceil(self.inside.total / self.rate))) if self.rate else 1

    def _learn(self, seconds: float, requests: int) -> None:
        self._worked_s += seconds
        self._worked += requests
        if self._worked > MEMORY:
            self._worked_s *= MEMORY / self._worked
            self._worked = MEMORY
        if self._worked >= KNOWN:
            self.work_s = self._worked_s / self._worked
            self.hall_bound = max(FLOOR, int(self.wait_s / self.work_s))

    def _judge(self) -> None:
        self.is_shut = self.inside.total >= self.room or self.hall.total >= self.hall_bound
