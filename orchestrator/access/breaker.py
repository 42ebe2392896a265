"""A circuit breaker (M. Nygard, Release It!, 2007, chapter 5) for an expert whose provider may fail. Pure: no clock.

closed --failures in a row, or too large a share of the last ones--> open --cooldown--> half open: one request tries
half open --it is answered--> closed          half open --it fails--> open, for twice as long, up to a bound
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "half_open", "open"]

LAST = 20
"""Requests over which the share of failures is taken."""


@dataclass(frozen=True, slots=True)
class Rules:
    """failures: in a row that open it; share: of the last LAST requests that does; cooldown_s, longest_s: first and
    longest time that it stays open."""

    failures: int = 5
    share: float = 0.5
    cooldown_s: float = 30.0
    longest_s: float = 600.0


@dataclass(slots=True)
class Breaker:
    rules: Rules = Rules()
    _in_a_row: int = 0
    _last: deque[bool] = field(default_factory=lambda: deque(maxlen=LAST))  # did it fail?
    _open_until: float | None = None
    _open_s: float = 0.0
    _trying: bool = False

    def state(self, now: float) -> State:
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def problem(self, now: float) -> str | None:
        """Why a request had better go elsewhere; None if it may come."""
        if self._open_until is None or (now >= self._open_until and not self._trying):
            return None
        when = f"in {self._open_until - now:.0f} s" if now < self._open_until else "just now"
        return f"its provider failed, {self._in_a_row} times in a row; it is tried again {when}"

    def enter(self, now: float) -> str | None:
        """A request wants to begin: None if it may, else why not. In half-open state the first one may."""
        problem = self.problem(now)
        if problem is None:
            self._trying = self.state(now) == "half_open"
        return problem

    def left(self) -> None:
        """A request has gone without telling anything of the provider."""
        self._trying = False

    def answered(self) -> None:
        self._last.append(False)
        if self._open_until is not None:
            self._last.clear()  # what was before the outage says nothing any more
        self._in_a_row, self._open_until, self._open_s, self._trying = 0, None, 0.0, False

    def failed(self, now: float) -> None:
        """By the provider's fault. What had begun before it was opened, and fails then, changes nothing."""
        self._in_a_row += 1
        self._last.append(True)
        state = self.state(now)
        if state == "half_open" or (state == "closed" and self._is_enough):
            longer = 2 * self._open_s if self._open_s else self.rules.cooldown_s
            self._open_s = min(longer, self.rules.longest_s)
            self._open_until, self._trying = now + self._open_s, False

    @property
    def _is_enough(self) -> bool:
        share = len(self._last) == LAST and sum(self._last) >= self.rules.share * LAST
        return share or self._in_a_row >= self.rules.failures
