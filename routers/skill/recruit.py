"""From expected scores to recruited experts (Symbolic-MoE, arXiv 2503.05641, section 3.3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routers.skill.vocabulary import Floats, Indices

RECRUITED = 3
"""k of the paper: how many experts a prompt has where selections are counted."""

TRIM = 0.05


@dataclass(frozen=True, slots=True)
class Weighting:
    """P(m|q) ~ local(q, m) * global(m).

    floor: local = max(expected score - floor, 0), in the paper's terms half a mark: at 0.5 an expert counts only on
        prompts that it more likely gets right than wrong, at 0 always.
    power: 1 / T of global = S_m^(1/T) / sum, S_m the expert's level; 2 in the paper, 0 leaves global out. A power and
        not a softmax, which would put nearly all on one expert.
    """

    floor: float
    power: float


def relevance(expected: Floats, level: Floats, weighting: Weighting) -> Floats:
    """P(m|q) of calibrated expected scores (n, E) and levels (E,); rows sum to 1.

    Where no expert has a positive local score, global decides alone; where that is 0 too, all are equal.
    """
    power = np.maximum(level, 0.0) ** weighting.power
    overall = power / power.sum() if power.sum() > 0 else np.full(len(level), 1 / len(level))
    rows = np.maximum(expected - weighting.floor, 0.0) * overall
    empty = rows.sum(axis=1) <= 0
    rows[empty] = overall
    shares: Floats = rows / rows.sum(axis=1, keepdims=True)
    return shares


def ranked(shares: Floats, last: NDArray[np.bool_], k: int) -> Indices:
    """The best k experts of each row of P(m|q): (n, k). last: (E,), the trimmed ones, which come after all others."""
    return np.argsort(last - shares, axis=1, kind="stable")[:, :k]


def trimmed(shares: Floats, trim: float = TRIM) -> NDArray[np.bool_]:
    """(E,), the experts that take less than `trim` of all selections when each of n prompts recruits three.

    An even share is the measure where there are many experts: half of it is enough to stay. Ties go to the first.
    """
    n, experts = shares.shape
    k = min(RECRUITED, experts)
    chosen = ranked(shares, np.zeros(experts, np.bool_), k)
    selections = np.bincount(chosen.ravel(), minlength=experts) / (n * k)
    few: NDArray[np.bool_] = selections < min(trim, 0.5 / experts)
    return few


def recruit(shares: Floats, last: NDArray[np.bool_], allowed: Indices, k: int) -> tuple[Indices, Floats]:
    """The best k of the experts `allowed`, fewer if there are fewer, and their weights.

    shares: (E,), P(m|q); last: (E,), the trimmed experts, which come after all others. The weights are shares of all
    that are allowed, so they sum to 1 if those are k; they never rise.
    """
    own = shares[allowed]
    order = np.lexsort((-own, last[allowed]))[:k]
    total = own.sum()
    weights = own[order] / total if total > 0 else np.full(len(order), 1 / max(len(own), 1))
    return allowed[order], np.minimum.accumulate(weights)
