"""Whether to try again, and when: decisions without clock or I/O, and the one loop that follows them.

The loop is a generator, so that the blocking and the asynchronous client share it: it says what to do next, `Send` or
`Sleep`, and is told what came of it, `Done` or `Failed`.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from coe_client.errors import CoeError

T = TypeVar("T")

RETRIED = (408, 409, 429)
"""Statuses under 500 that may be another at the next try."""


@dataclass(frozen=True, slots=True)
class Send:
    """Try once. left: seconds until the time limit; number: 0 for the first try."""

    left: float
    number: int


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """A try that failed. again: another one may not. after: seconds to wait at least, if the service told."""

    error: CoeError
    again: bool
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between tries: first, doubled each time, up to most; up to `jitter` of them less, so that many clients
    do not come back at once. What the service tells is waited in full, and up to a tenth longer for the same reason."""

    first: float = 0.5
    most: float = 8.0
    jitter: float = 0.5

    def seconds(self, number: int, after: float | None, uniform: float) -> float:
        """number: of the try that failed, 0 for the first. uniform: in [0, 1)."""
        if after is not None:
            return after * (1 + 0.1 * uniform)
        return float(min(self.first * 2 ** min(number, 30), self.most)) * (1 - self.jitter * uniform)


def may_retry(status: int, headers: Mapping[str, str]) -> bool:
    """The service's own word, `x-should-retry`, or else by the status. Names of headers are in lower case."""
    said = headers.get("x-should-retry", "").strip().lower()
    if said in ("true", "false"):
        return said == "true"
    return status in RETRIED or status >= 500


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the service asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date.

    now: seconds since 1970. None if it does not ask, or not for a number.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None or (seconds := _number(value)) is not None:
        return None if value is None else seconds
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def tries(
    *, max_retries: int, timeout: float, backoff: Backoff, now: Callable[[], float], uniform: Callable[[], float]
) -> Generator[Send | Sleep, Done[T] | Failed | None, T]:
    """Says what to do next, until a try is done; its value is the result.

    timeout: seconds for all of it. now: a clock in seconds. Raises the last try's error.
    """
    until = now() + timeout
    number = 0
    while True:
        outcome = yield Send(max(0.001, until - now()), number)
        if isinstance(outcome, Done):
            return outcome.value
        assert isinstance(outcome, Failed)
        if not outcome.again or number >= max_retries:
            raise outcome.error
        wait = backoff.seconds(number, outcome.after, uniform())
        if now() + wait >= until:
            raise outcome.error  # no time is left for another try
        yield Sleep(wait)
        number += 1
