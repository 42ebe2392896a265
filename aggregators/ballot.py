"""The rule of a vote: who wins, when it is decided, and how many seats must be asked. Plain values, nobody is called.

Every seat votes with its weight for its answer. Most weight wins; a tie goes to the answer with the heaviest single
vote, then to that with the best rank.

Two things decide a vote before everybody has voted. With L the leader's weight less that of the second, and W the
weight of the seats whose vote is not in:

    L > W                 nothing can change the winner (whatever came in, in whatever order)
    L > patience * W      it is unlikely that something does (all seats that were asked are in, two of them at least)

Patience 1 is the first rule alone. Less of it takes fewer calls and sometimes ends with another winner than the vote of
all seats. Both rules give one winner for all orders in which votes arrive: the second one looks at whole waves, and who
is in a wave depends on answers alone. A wave is the fewest seats with which the vote can be decided, if they all agree.
So no call is made that asking one seat after the other would have spared.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

SAFE = 1e-6
"""Lead over the remaining weight that ends a vote: far above what adding floats can get wrong."""
_DECIMALS = 9
"""Weights that differ in the last bits are a tie."""


class Ballot:
    """weights: of all seats, by rank. answers: rank -> the answer of a seat that is in, None if it has no vote."""

    def __init__(self, weights: Sequence[float], answers: Mapping[int, str | None]) -> None:
        self._weights, self._in = weights, answers
        votes: dict[str, list[int]] = defaultdict(list)
        for rank in sorted(answers):
            if (answer := answers[rank]) is not None:
                votes[answer].append(rank)
        totals = {answer: math.fsum(weights[rank] for rank in ranks) for answer, ranks in votes.items()}

        def place(answer: str) -> tuple[float, float, int]:
            ranks = votes[answer]
            return -round(totals[answer], _DECIMALS), -max(weights[rank] for rank in ranks), ranks[0]

        self.totals: dict[str, float] = {answer: totals[answer] for answer in sorted(votes, key=place)}
        """Answer -> weight, the winner first."""
        self.winner: int | None = votes[next(iter(self.totals))][0] if votes else None
        """The best rank among the votes for the winner; None where nobody has a vote."""

    def is_decided(self, asked: int, patience: float = 1.0) -> bool:
        """Is it of no use to wait, or to ask more seats? asked: the first so many were. patience: in [0, 1].

        Not before all seats that rank before the winner are in: one of them may have the same answer, and then the text
        is its own.
        """
        if self.winner is None or not all(rank in self._in for rank in range(self.winner)):
            return False
        lead, out = self._lead(), self._out(range(len(self._weights)))
        whole = all(rank in self._in for rank in range(asked))
        return lead > (_share(asked, patience) if whole else 1.0) * out + SAFE

    def wanted(self, asked: int, patience: float = 1.0) -> int:
        """The seats that must be asked: the first so many, at least `asked`, and all if that is not enough.

        More than `asked` where no answer of the seats that were asked can decide the vote, even before they are in.
        """
        seats = len(self._weights)
        return next((count for count in range(asked, seats) if self._may_decide(count, patience)), seats)

    def _may_decide(self, count: int, patience: float) -> bool:
        """Is the vote decided if the first `count` seats are asked, and all that are not in agree with the leader?"""
        agreeing = self._out(range(count))
        rest = self._out(range(count, len(self._weights)))
        return self._lead() + agreeing > _share(count, patience) * rest + SAFE

    def _lead(self) -> float:
        first, second, *_ = [*self.totals.values(), 0.0, 0.0]
        return first - second

    def _out(self, ranks: range) -> float:
        """The weight of those that are not in."""
        return math.fsum(self._weights[rank] for rank in ranks if rank not in self._in)


def _share(count: int, patience: float) -> float:
    """Of the weight that is out, what must be outweighed after `count` seats. A single vote agrees with nobody."""
    return patience if count >= 2 else 1.0
