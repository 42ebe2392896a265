"""Is it this line that ends whoever runs it, or would they have gone down without it? Pure.

A line is run alone when it may be what ends runners. When one goes down then, that is no proof: somebody may be killing
runners. So what happened with the line is compared with what happened at the same time without it: a line that is
innocent meets as many deaths a second as any other time does, however many that are.

    with the line       X  X  X  X       4 deaths in 2 s
    without it       .........X.......   1 death in 60 s
"""

from dataclasses import dataclass
from math import exp, lgamma, log, log1p

LEAST = 5
"""Deaths under which nobody is blamed."""
CHANCE = 1e-6
"""How likely what was seen may be, if the line is innocent, for it to be blamed."""
CONTROL = 3.0
"""Seconds without the line that are wanted for each one with it, before it is tried again."""
LONGEST_S = 600.0
"""How long it is left alone at a time."""


@dataclass(frozen=True, slots=True)
class Span:
    """So many seconds of runners, in which so many of them went down."""

    deaths: int = 0
    seconds: float = 0.0


def is_to_blame(own: Span, others: Span) -> bool:
    """own: while the line ran alone. others: of all runners while it did not, since it was first run alone.

    The conditional test of two Poisson rates (Przyborowski and Wilenski, 1940): were the rates the same, each of all
    deaths would have come in the line's own time with the share that this has of all the time.
    """
    if own.deaths < LEAST:
        return False
    total = own.seconds + others.seconds
    share = own.seconds / total if total > 0 else 1.0
    return at_least(own.deaths, own.deaths + others.deaths, share) < CHANCE


def wait_s(own: Span, others: Span) -> float:
    """How long a line is left alone, so that its next try can be told from chance."""
    if not own.deaths:
        return 0.0
    return min(LONGEST_S, max(0.0, CONTROL * own.seconds - others.seconds))


def told_of(what: str, own: Span, others: Span) -> str:
    """The evidence. what: it did meanwhile."""
    return (
        f"the service went down {own.deaths} times while it {what}, for {own.seconds:.1f} s; "
        f"without that {others.deaths} times in {others.seconds:.1f} s"
    )


def at_least(hits: int, tries: int, share: float) -> float:
    """The chance of so many hits or more, where each try is one with this chance."""
    if hits <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    ways = (lgamma(tries + 1) - lgamma(k + 1) - lgamma(tries - k + 1) for k in range(hits, tries + 1))
    logs = (own + k * log(share) + (tries - k) * log1p(-share) for k, own in enumerate(ways, hits))
    return min(1.0, sum(map(exp, logs)))
