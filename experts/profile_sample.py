"""Which questions to put to a new expert, when the others have answered all of them and it shall answer few.

Every question of a category has the same chance to be drawn, so plain means over what was drawn are unbiased, for the
profile and for a router that is fitted on it. What tells more comes in through the order of the draw:

1. each category gets its share of the k, at least one; a remainder goes to the largest fractions, of equal ones to the
   category where the known experts disagree most;
2. within a category the questions are put in order of the known experts' mean score, from those that nobody gets right
   to those that all do, and every (N/k)-th is taken from a random start: systematic sampling along an ordering that the
   new expert's score correlates with, whose error is that of stratified sampling (Cochran, Sampling Techniques, ch. 8).
"""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def choose(categories: Sequence[str], known: NDArray[np.float64], k: int, seed: int = 0) -> list[int]:
    """Indices of k of n questions (all of them if k >= n), ascending; the same for the same arguments.

    categories: (n). known: (n, experts), scores of those that have answered, nan where one has not; (n, 0) if none has.
    Raises ValueError if k is less than the number of categories.
    """
    names = sorted(set(categories))
    if k < len(names):
        raise ValueError(f"{k} questions are too few for {len(names)} categories: ask at least one of each")
    if k >= len(categories):
        return list(range(len(categories)))
    easy = _mean_scores(known)
    members = {name: [i for i, category in enumerate(categories) if category == name] for name in names}
    quotas = _quotas(members, easy, k)
    rng = random.Random(seed)
    return sorted(index for name in names for index in _systematic(members[name], easy, quotas[name], rng))


def _mean_scores(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n) mean of the known scores of each question, 0.5 where there is none."""
    there = ~np.isnan(known)
    count = there.sum(axis=1)
    total = np.where(there, known, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def _quotas(members: dict[str, list[int]], easy: NDArray[np.float64], k: int) -> dict[str, int]:
    """Category -> questions, by largest remainder over what is left after one each; never more than there are."""
    n = sum(map(len, members.values()))
    exact = {name: k * len(own) / n for name, own in members.items()}
    quotas = {name: max(1, int(exact[name])) for name in members}
    # 4 p (1 - p): 0 where all known experts do the same, 1 where half of them are right.
    disagreement = {name: float(np.mean(4 * easy[own] * (1 - easy[own]))) for name, own in members.items()}

    def lacks(name: str) -> tuple[float, float, str]:
        return exact[name] - quotas[name], disagreement[name], name

    while (left := k - sum(quotas.values())) > 0:
        quotas[max((name for name in members if quotas[name] < len(members[name])), key=lacks)] += 1
    while left < 0:
        quotas[min((name for name in members if quotas[name] > 1), key=lacks)] -= 1
        left += 1
    return quotas


def _systematic(own: list[int], easy: NDArray[np.float64], quota: int, rng: random.Random) -> list[int]:
    ties = list(own)
    rng.shuffle(ties)  # equal ones stand in random order
    ordered = sorted(ties, key=lambda index: easy[index])
    step = len(ordered) / quota
    start = rng.random() * step
    return [ordered[min(int(start + i * step), len(ordered) - 1)] for i in range(quota)]
