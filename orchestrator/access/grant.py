"""What an API key may do: its scopes, its priority class and its limits, as plain values."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from experts.registry import did_you_mean

Priority = Literal["interactive", "normal", "batch"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

SHARES: Mapping[Priority, float] = {"interactive": 8.0, "normal": 4.0, "batch": 1.0}
"""Weight of a key's fair share where requests wait for admission."""
BANDS: Mapping[Priority, int] = {"interactive": -10_000, "normal": 0, "batch": 10_000}
"""Added to the `priority` of a request, -1000 to 1000, which so orders requests within the class of their key."""

LIMITS = (
    "requests_per_minute",
    "requests_per_day",
    "tokens_per_minute",
    "tokens_per_day",
    "usd_per_minute",
    "usd_per_day",
    "concurrent",
)
"""Names of a key's limits. Tokens are of prompt and answer, usd is US dollars, concurrent are requests at a time."""

Limits = Mapping[str, float | None]
"""Limit -> the most, None for none."""

Change = float | Literal["default"] | None
"""What is to become of a limit: a number, none at all, or the service's again."""

MAX_LIMIT = 1e9


@dataclass(frozen=True, slots=True)
class Grant:
    """experts, ensembles: names that the key may use, ensembles with their prefix; None = all. admin: may it manage
    keys? limits: in place of the service's defaults."""

    experts: tuple[str, ...] | None = None
    ensembles: tuple[str, ...] | None = None
    admin: bool = False
    priority: Priority = "normal"
    limits: Limits = field(default_factory=dict)

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> "Grant":
        """From what `dataclasses.asdict` made of one, which went through JSON."""
        known: dict[str, Any] = {name: data[name] for name in ("admin", "priority", "limits") if name in data}
        for name in ("experts", "ensembles"):
            known[name] = None if data.get(name) is None else tuple(data[name])
        return cls(**known)

    def may_ask(self, expert: str) -> bool:
        return self.experts is None or expert in self.experts

    def may_use(self, ensemble: str) -> bool:
        """ensemble: a model name, with the prefix."""
        return self.ensembles is None or ensemble in self.ensembles

    def caps(self, defaults: Limits) -> dict[str, float]:
        """The limits that hold for the key: its own, then the service's."""
        return {name: most for name, most in {**defaults, **self.limits}.items() if most is not None}

    def band(self, priority: int) -> int:
        """The priority of a request for the engine's queue: lower goes first."""
        return BANDS[self.priority] + priority


EVERYTHING = Grant()


def parse_limit(text: str) -> tuple[str, Change]:
    """'tokens_per_day=1000', '...=none' or '...=default' as (limit, value). Raises ValueError."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in LIMITS:
        hint = did_you_mean(name, LIMITS) if equals else ""
        raise ValueError(f"got {text[:100]!r}{hint}; allowed: NAME=NUMBER, with NAME one of {', '.join(LIMITS)}")
    value = value.strip().lower()
    if value == "none":
        return name, None
    if value == "default":
        return name, "default"
    try:
        number = float(value.replace("_", ""))
    except ValueError:
        number = math.nan
    return name, checked_limit(name, number)


def checked_limit(name: str, value: float) -> float:
    """The value if a limit of that name can have it. Raises ValueError."""
    whole = not name.startswith("usd")
    if not 0 <= value <= MAX_LIMIT or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: got {value:g}; allowed: {kind} from 0 to {MAX_LIMIT:g}, none, or default")
    return value


def with_limits(limits: Limits, changes: Mapping[str, Change]) -> dict[str, float | None]:
    """The limits after the changes; what is "default" is the service's again."""
    merged: dict[str, Change] = {**limits, **changes}
    return {name: value for name, value in merged.items() if value != "default"}


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(text: str) -> float:
    """'90s', '15m', '24h', '30d' or '2w' in seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise ValueError(f"got {text[:100]!r}; allowed: a number with s, m, h, d or w, such as 24h")
    return float(found[1]) * _UNITS[found[2]]


def expiry(text: str, now: float) -> float | None:
    """'never', a duration from `now`, or a date such as 2030-01-31 (its beginning in UTC), as Unix time.

    Raises ValueError, also for a time that is over.
    """
    text = text.strip()
    if text.lower() == "never":
        return None
    try:
        at = now + duration(text)
    except ValueError:
        try:
            given = datetime.fromisoformat(text)
        except ValueError:
            shown = text[:100]
            raise ValueError(
                f"got {shown!r}; allowed: never, a duration such as 90d, or a date such as 2030-01-31"
            ) from None
        at = (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    if at <= now:
        raise ValueError(f"got {text[:100]!r}, which is over; allowed: a time to come, or never")
    return at


def strangers(grant: Grant, experts: Sequence[str], ensembles: Sequence[str]) -> list[str]:
    """A line for each name in the scopes that nothing of this service has."""
    lines = [
        f"no expert is named {name!r}{did_you_mean(name, experts)}"
        for name in grant.experts or ()
        if name not in experts
    ]
    return lines + [
        f"no ensemble is named {name!r}{did_you_mean(name, ensembles)}"
        for name in grant.ensembles or ()
        if name not in ensembles
    ]
