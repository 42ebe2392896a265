"""A category that comes later: the router learns it without forgetting or fitting again what it knows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from routers.encoders.base import Vectors
from routers.encoders.style import styles
from routers.two_level.level1 import Floats, Level1
from routers.two_level.level1_fit import LEAST_PROMPTS, REGULARISATION
from routers.two_level.model import Fitted, Level2


def with_category(
    fitted: Fitted, name: str, prompts: Sequence[str], x: Vectors, scores: Floats, shrinkage: float
) -> Fitted:
    """`fitted` with one more category.

    prompts: (m,), at least 10. x: (m, dim), their unit vectors. scores: (m, E), nan = not measured.
    shrinkage: in items, see `fit_level2`.

    Level 1 gets one more logit, fitted to tell the new prompts from the references with all other logits as they are:
    the odds between any two older categories stay what they were, and so do both limits. It gets one more centre that
    prompts may lie around. Level 2 gets one more row. The second stage and the committees are not asked about prompts
    of the new category, which they never saw.
    Raises ValueError.
    """
    if name in fitted.rows:
        raise ValueError(f"there is a category {name!r} already; the categories are {', '.join(fitted.rows)}")
    if len(x) < LEAST_PROMPTS:
        raise ValueError(f"a category needs at least {LEAST_PROMPTS} prompts; got {name}: {len(x)}")
    if scores.shape != (len(x), len(fitted.experts)):
        raise ValueError(f"scores must be {(len(x), len(fitted.experts))}, prompts x experts; got {scores.shape}")
    if ((scores < 0) | (scores > 1)).any() or np.isnan(scores).all():
        raise ValueError("scores must be in [0, 1], nan where an expert was not measured, and not all of them nan")
    level1, old, place = fitted.level1, fitted.level2, len(fitted.categories)
    typical = level1.distance.typical
    share = len(x) / (len(fitted.level1.references) + len(x))
    level2 = Level2(
        quality=np.insert(old.quality, place, _row(fitted, scores, shrinkage), axis=0),
        prior=np.insert(old.prior * (1 - share), place, share),
        first=np.insert(old.first, place, -1),
        mixture=old.mixture,
    )
    return replace(
        fitted,
        categories=(*fitted.categories, name),
        level1=replace(_with_logit(level1, x), density=level1.density.with_centre(x, styles(prompts), typical)),
        level2=level2,
        second=None if fitted.second is None else fitted.second.with_strangers(len(x)),
        committees=None if fitted.committees is None else fitted.committees.with_row(place),
    )


def _row(fitted: Fitted, scores: Floats, shrinkage: float) -> Floats:
    """Expected scores, shrunk to the mean of each expert over the older categories."""
    overall = fitted.level2.prior @ fitted.level2.quality
    items = (~np.isnan(scores)).sum(axis=0)
    row: Floats = (np.nansum(scores, axis=0) + shrinkage * overall) / np.maximum(items + shrinkage, 1e-12)
    return np.where(items + shrinkage > 0, row, overall)


def _with_logit(level1: Level1, x: Vectors) -> Level1:
    """Binary logistic regression of new prompts against references, with the log of the older odds as its offset."""
    from scipy.optimize import minimize

    temperature = level1.figures["temperature"]
    points = np.concatenate([x, level1.references]).astype(np.float64)
    new = np.arange(len(points)) < len(x)
    logits = points @ (level1.coef.T * temperature) + level1.intercept * temperature
    top = logits.max(axis=1)
    older = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    # The new prompts count as many as an older category has on average: how few were given says nothing of requests.
    weight = np.where(new, max(1.0, len(level1.references) / len(level1.coef) / len(x)), 1.0)
    sign = np.where(new, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        coef, intercept = parameters[:-1], parameters[-1]
        margin = sign * (points @ coef + intercept - older)
        slope = -weight * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        value = weight @ np.logaddexp(0, -margin) + coef @ coef / (2 * REGULARISATION)
        return float(value), np.concatenate([points.T @ slope + coef / REGULARISATION, [slope.sum()]])

    found = minimize(loss, np.zeros(points.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return replace(
        level1,
        coef=np.concatenate([level1.coef, found[None, :-1] / temperature]).astype(np.float32),
        intercept=np.append(level1.intercept, found[-1] / temperature).astype(np.float32),
        references=np.concatenate([level1.references, x]).astype(np.float32),
    )
