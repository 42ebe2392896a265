"""Does a route stay when a prompt is written otherwise? See `routers.evaluation.perturb` for the ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routers.base import Router


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the routes of the perturbed prompts.

    changed: prompts that the perturbation changed; all other figures are over these.
    same: share with the same set of experts. by_chance: the same for two prompts drawn at random: what a router that
    reads nothing but the frequency of its routes would keep.
    score, score_before: mean measured score of the experts chosen for the perturbed prompts and for the prompts
    themselves, weighted by the routes; nan without scores.
    """

    changed: int
    same: float
    by_chance: float
    score: float
    score_before: float


def kept(
    router: Router,
    prompts: Sequence[str],
    after: Sequence[str],
    experts: Sequence[str],
    k: int = 1,
    *,
    read: Callable[[str], str] = lambda text: text,
    scores: NDArray[np.float64] | None = None,
) -> Kept:
    """How many of the changed prompts keep the set of their `k` experts.

    after: the perturbed prompts. read: what the service makes of a text before it routes (`routers.ask`).
    scores: (n, len(experts)), measured on `prompts`; nan = not. Raises ValueError if no prompt was changed.
    """
    places = [i for i, (prompt, other) in enumerate(zip(prompts, after, strict=True)) if prompt != other]
    if not places:
        raise ValueError("none of the prompts was changed, so there is nothing to compare")
    before = _weights(router, [read(prompts[i]) for i in places], experts, k)
    now = _weights(router, [read(after[i]) for i in places], experts, k)
    same = ((before > 0) == (now > 0)).all(axis=1)
    measured = np.full(before.shape, np.nan) if scores is None else scores[places]
    _, counts = np.unique(before > 0, axis=0, return_counts=True)
    return Kept(
        changed=len(places),
        same=float(same.mean()),
        by_chance=float(((counts / len(places)) ** 2).sum()),
        score=_mean_score(now, measured),
        score_before=_mean_score(before, measured),
    )


def _weights(router: Router, prompts: Sequence[str], experts: Sequence[str], k: int) -> NDArray[np.float64]:
    """(n, E): the weight of each expert in each route; a chosen expert never weighs nothing."""
    columns = {expert: column for column, expert in enumerate(experts)}
    weights = np.zeros((len(prompts), len(experts)))
    for row, route in zip(weights, router.route_many(prompts, experts, k), strict=True):
        for choice in route.choices:
            row[columns[choice.expert]] = max(choice.weight, 1e-12)
    return weights


def _mean_score(weights: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    known = np.where(np.isnan(scores), 0.0, weights)
    total = known.sum(axis=1)
    if not (total > 0).any():
        return float("nan")
    rows = (known * np.nan_to_num(scores)).sum(axis=1)[total > 0] / total[total > 0]
    return float(rows.mean())
