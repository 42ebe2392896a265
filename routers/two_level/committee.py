"""Who votes together, and with which weights: committees that `vote` (aggregators/vote.py) makes the most of.

Each member gives its weight to its answer, and the answer with most weight wins. A route chooses the weights alone,
so they are learned as a conditional logit over the candidate answers (McFadden 1974):

    u(answer) = sum of w_m over members m that gave it,   P(answer) = exp u(answer) / sum over all answers exp u

maximising the likelihood of the right answer where a member gave it. Two members that err alike get less than two that
err apart, which log-odds of their scores do not know. w = a weight for all categories + one for the category, whose
square is penalised.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

WORTH_CAP = 0.99


def worth(scores: Floats) -> Floats:
    """What the word of an expert with these scores is worth in a vote if nothing else is known: -log(1 - score).

    Near the log-odds for good experts, near the score for bad ones, never negative.
    """
    values: Floats = -np.log1p(-np.clip(scores, 0.0, WORTH_CAP))
    return values


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Committees of one size k, or all voters together.

    members: (D, k) columns of experts. weights: (D, R, k) at least 0, for each category.
    of_row: (R,), the committee of a category, -1 = none.
    """

    members: Indices
    weights: Floats
    of_row: Indices

    def sit(self, row: int, shares: Floats) -> tuple[Indices, Floats]:
        """Members and weights, the heaviest first, for a prompt of category `row`; none if it has no committee.

        shares: (R,), how much the prompt belongs to each category.
        """
        at = int(self.of_row[row])
        if at < 0:
            return np.zeros(0, np.intp), np.zeros(0)
        weights = shares @ self.weights[at]
        order = np.argsort(-weights, kind="stable")
        return self.members[at][order], weights[order]

    def with_row(self, place: int) -> "Bench":
        """With a category more, which has no committee."""
        return Bench(self.members, np.insert(self.weights, place, 0.0, axis=1), np.insert(self.of_row, place, -1))


@dataclass(frozen=True, slots=True, eq=False)
class Committees:
    """sizes: k -> committees of k. everyone: all voters, for a k without committees or a member that is missing."""

    sizes: dict[int, Bench]
    everyone: Bench

    def choose(self, row: int, shares: Floats, allowed: Mask, k: int) -> tuple[Indices, Floats]:
        """At most k members and their weights, the heaviest first; none where no committee is of use.

        allowed: (E,), who is a candidate.
        """
        if k in self.sizes:
            members, weights = self.sizes[k].sit(row, shares)
            if allowed[members].all() and weights.sum() > 0:
                return members, weights
        members, weights = self.everyone.sit(row, shares)
        of_use = allowed[members] & (weights > 0)
        return members[of_use][:k], weights[of_use][:k]

    def with_row(self, place: int) -> "Committees":
        """With a category more, which has no committee."""
        return Committees({k: bench.with_row(place) for k, bench in self.sizes.items()}, self.everyone.with_row(place))
