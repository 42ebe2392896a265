"""How many experts answer one request. A rule gets (E,) probabilities that never rise and sum to 1, and gives a number
from 1 to E."""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from routers.policies.base import Floats

STEP = 0.02
"""Of the budget's controller, see `Budget`."""


class Number(Protocol):
    def __call__(self, p: Floats) -> int: ...


def probabilities(scores: Floats, sharpness: float) -> Floats:
    """(E,) shares of scores ^ sharpness, as experts are drawn in Symbolic-MoE (arXiv 2503.05641, with 1/T = 2).

    Shares of the scores themselves are nearly even among many experts, whoever is best; a softmax would depend on the
    scores' scale. If all scores are 0 the shares are equal.
    """
    powers = scores**sharpness
    total = powers.sum()
    shares: Floats = powers / total if total > 0 else np.full(len(scores), 1 / len(scores))
    return shares


@dataclass(frozen=True, slots=True)
class TopP:
    """The fewest experts whose probabilities reach tau together: the one that crosses tau is kept. tau in (0, 1]."""

    tau: float

    def __call__(self, p: Floats) -> int:
        # The sum of all may be a hair under 1.
        return min(int(np.searchsorted(p.cumsum(), self.tau - 1e-12)) + 1, len(p))


@dataclass(frozen=True, slots=True)
class SkipSecond:
    """One expert where P2 < beta x P1, else as many as `otherwise` says. beta in [0, 1]; 0 never skips."""

    beta: float
    otherwise: Number

    def __call__(self, p: Floats) -> int:
        return 1 if len(p) < 2 or p[1] < self.beta * p[0] else self.otherwise(p)


@dataclass(frozen=True, slots=True)
class AtMost:
    """So many, or all there are."""

    k: int

    def __call__(self, p: Floats) -> int:
        return min(self.k, len(p))


class Budget:
    """As many experts as a null candidate lets pass, such that the mean over requests is `mean`.

    The null candidate (AdaMoE, arXiv 2406.13233) has the probability threshold x P1; an expert beyond the first is
    asked while its own is at least as large. So prompts for which experts are nearly equal get several, clear ones
    one. After every request the threshold moves by STEP x (number - mean), which is integral control. It begins at 1/2
    and stays between its bounds, so the number of calls after any T requests, whatever they are, is off T x mean by no
    more than 0.5/STEP + at_most - 1 = 24 + at_most: with at_most = 3 within 2 % of a mean of 1.5 after 900 requests,
    and ever closer.

    That takes at least `at_most` candidates. With fewer, e.g. in an outage, the mean may be out of reach; the bounds
    keep the threshold from running away meanwhile. Thread-safe; every process has a threshold of its own.
    Raises ValueError unless 1 <= mean <= at_most.
    """

    def __init__(self, mean: float, at_most: int) -> None:
        if not 1 <= mean <= at_most:
            raise ValueError(f"the mean number of experts must be from 1 to at_most, {at_most}; got {mean}")
        self._mean, self._at_most = mean, at_most
        # At 0 and below all pass, above 1 nobody does; one step beyond is as far as a feasible mean ever drives it.
        self._bounds = (-STEP * (mean - 1), 1 + STEP * (at_most - mean))
        self._threshold = 0.5
        self._lock = threading.Lock()

    @property
    def threshold(self) -> float:
        """Probability of the null candidate as a share of the first expert's."""
        return self._threshold

    def __call__(self, p: Floats) -> int:
        with self._lock:
            number = 1 + int(np.count_nonzero(p[1 : self._at_most] >= self._threshold * p[0]))
            low, high = self._bounds
            self._threshold = min(max(self._threshold + STEP * (number - self._mean), low), high)
        return number
