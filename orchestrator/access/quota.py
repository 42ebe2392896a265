"""A key's limits as plain values: what a request may use, what a decision says, and the headers that tell it.

`LimitReached`   a limit of the key does not admit the request now, or ever
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

UNIT = {"requests": 1, "tokens": 1, "usd": 1e-9}
"""What one of a stored amount stands for."""


PATIENCE_S = 60
"""OpenAI's clients try again sooner than a longer Retry-After says; `x-should-retry` tells them not to."""
SLOT_S = {"minute": 2, "day": 1800}
"""By so much later than its window what was used is free again."""


class Window(NamedTuple):
    """Where use is counted. name: of its ring in Redis; measure: requests, tokens or usd; seconds: its length."""

    name: str
    measure: str
    seconds: int
    slot_ms: int

    @property
    def slots(self) -> int:
        return self.seconds * 1000 // self.slot_ms


WINDOWS: Mapping[str, Window] = {
    f"{measure}_per_{period}": Window(measure[0] + period[0], measure, seconds, SLOT_S[period] * 1000)
    for measure in UNIT
    for period, seconds in (("minute", 60), ("day", 86400))
}
"""Limit -> its window: a minute of slots of 2 s, a day of slots of half an hour."""


class LimitReached(RuntimeError):
    """A limit of the key refuses the request. cause: a key of the table in `orchestrator.errors`; retry_after:
    seconds; None where trying again is of no use."""

    def __init__(self, cause: str, message: str, retry_after: float | None, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.cause, self.headers = cause, dict(headers)
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after)))
        if retry_after is None or retry_after > PATIENCE_S:
            self.headers["x-should-retry"] = "false"


def heeded(seconds: float) -> float:
    """A wait as it is told: that of a minute's limit as a minute at most. Who comes too early is told the rest; who
    heeds no longer wait would come at once, and fail."""
    return float(PATIENCE_S) if PATIENCE_S < seconds <= PATIENCE_S + SLOT_S["minute"] else seconds


@dataclass(frozen=True, slots=True)
class Use:
    """What a request uses, or may use. bounded: has the caller bounded it, by `max_tokens` or a budget?"""

    requests: int = 1
    tokens: int = 0
    usd: float = 0.0
    bounded: bool = False

    def amount(self, measure: str) -> int:
        """In stored units, rounded up."""
        value: float = getattr(self, measure)
        return math.ceil(round(value / UNIT[measure], 3))

    def __add__(self, other: "Use") -> "Use":
        return Use(
            self.requests + other.requests,
            self.tokens + other.tokens,
            self.usd + other.usd,
            self.bounded and other.bounded,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one limit, after the decision. reset: seconds until all of it is free again if nothing more is used."""

    limit: float
    remaining: float
    reset: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """An admission. caller: whose use it is counted as; at: when, in ms by the clock of Redis, 0 if no limit saw it.

    reserved: limit -> the stored amount that was taken for it.
    """

    request_id: str
    caller: str
    at: int = 0
    reserved: Mapping[str, int] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return headers(self.standings)


def headers(standings: Mapping[str, Standing]) -> dict[str, str]:
    """OpenAI's x-ratelimit headers: of requests and tokens, per minute where there is such a limit, else per day."""
    made = {}
    for measure in ("requests", "tokens"):
        standing = standings.get(f"{measure}_per_minute") or standings.get(f"{measure}_per_day")
        if standing is not None:
            made[f"x-ratelimit-limit-{measure}"] = f"{standing.limit:.0f}"
            made[f"x-ratelimit-remaining-{measure}"] = f"{max(0, standing.remaining):.0f}"
            made[f"x-ratelimit-reset-{measure}"] = span(standing.reset)
    return made


def span(seconds: float) -> str:
    """As Go writes durations, and OpenAI in these headers: 20ms, 1.5s, 6m0s, 23h59m0s."""
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest / 1000:g}s"
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}" if minutes else tail


def told(limit: str, value: float) -> str:
    """A limit in words: '60 requests per minute', '5 US dollars per day', '4 requests at a time'."""
    if limit == "concurrent":
        return f"{value:g} request{'s' if value != 1 else ''} at a time"
    measure, _, period = limit.partition("_per_")
    word = {"usd": "US dollars"}.get(measure, measure)
    return f"{value:g} {word} per {period}"
