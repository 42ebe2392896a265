"""How the two-level router learns from categories and the quality that was measured in them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routers.blas import blas_threads
from routers.encoders.base import Encoder, Vectors
from routers.encoders.style import styles
from routers.two_level.level1 import Floats, Indices
from routers.two_level.level1_fit import LEAST_PROMPTS, MAX_REFERENCES, Doubt, fit_level1, neighbourhoods, references
from routers.two_level.model import Fitted, Level2
from routers.two_level.planner import Limit, plan

Quality = Mapping[str, Mapping[str, tuple[float, int]]]
"""category -> expert -> (mean score in [0, 1], number of items that it is the mean of)."""

SHRINKAGE = 20.0
"""Items that the overall mean of an expert is worth beside its mean in a category."""

_JUST = 1e-9
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a plan must keep; see `planner.plan`. `parameters` of every expert are needed if one of the two is set."""

    parameters: Mapping[str, int] | None = None
    total: float | None = None
    active: float | None = None
    limits: Sequence[Limit] = ()

    @property
    def is_set(self) -> bool:
        return self.total is not None or self.active is not None or bool(self.limits)

    def first(self, quality: Floats, prior: Floats, experts: Sequence[str], fixed: Mapping[int, int]) -> Indices:
        """The planned expert (R,) of each category. Raises ValueError, PlanError."""
        parameters = self.parameters or {}
        unknown = [expert for expert in experts if expert not in parameters]
        if unknown and (self.total is not None or self.active is not None):
            raise ValueError(f"a budget needs the `parameters` of every expert; missing: {', '.join(unknown)}")
        sizes = [parameters.get(expert, 1) for expert in experts]
        return plan(quality, prior, sizes, self.total, self.active, fixed, self.limits)


def fit(
    prompts: Sequence[str],
    categories: Sequence[str],
    quality: Quality,
    encoder: Encoder,
    *,
    general: str,
    seed: int,
    fallback: str | None,
    doubt: Doubt,
    shrinkage: float,
    prior: Mapping[str, float] | None,
    budgets: Budgets,
    on_progress: Callable[[int, int], None] | None,
) -> Fitted:
    """See `TwoLevelRouter.fit`."""
    names, experts = _checked(prompts, categories, quality, general, fallback)
    if shrinkage < 0:
        raise ValueError(f"shrinkage must be at least 0; got {shrinkage}")
    rows = names if general in names else (*names, general)
    y = np.array([names.index(category) for category in categories])
    counted = np.array([category != general for category in categories])
    shares = _prior(prior or Counter(categories), rows)
    table = fit_level2(quality, rows, experts, shares, shrinkage)
    fixed = {} if fallback is None else {rows.index(general): experts.index(fallback)}
    first = np.full(len(rows), -1)
    if budgets.is_set:
        first = budgets.first(table, shares, experts, fixed)
    first[list(fixed)] = list(fixed.values())
    x = embed(prompts, encoder, on_progress)
    with blas_threads(1):  # the matrices are small; see blas_threads
        rng = np.random.default_rng(seed)
        kept = references(y, MAX_REFERENCES, rng)
        folds = neighbourhoods(x, y, seed, rng)
        level1, _ = fit_level1(x, styles(prompts), y, counted if counted.any() else ~counted, kept, folds, doubt)
    return Fitted(
        encoder=encoder.name,
        categories=names,
        general=general,
        experts=experts,
        fallback=fallback,
        level1=level1,
        level2=Level2(table, shares, first, mixture=False),
    )


def embed(prompts: Sequence[str], encoder: Encoder, on_progress: Callable[[int, int], None] | None = None) -> Vectors:
    """(n, dim); on_progress is called with (prompts embedded, prompts)."""
    parts = [np.zeros((0, encoder.dim), np.float32)]
    for start in range(0, len(prompts), _BATCH):
        parts.append(encoder.encode(prompts[start : start + _BATCH]))
        if on_progress is not None:
            on_progress(min(start + _BATCH, len(prompts)), len(prompts))
    return np.concatenate(parts)


def fit_level2(
    quality: Quality, rows: Sequence[str], experts: Sequence[str], prior: Floats, shrinkage: float
) -> Floats:
    """Q (R, E), the expected scores.

    Measured: Q = (n * mean + shrinkage * g) / (n + shrinkage), g = the expert's mean over all its items (DESIGN 7).
    Not measured: g, but just under the least that is measured in the category: being good at home says nothing about
    elsewhere. A category without any measurement (the general one): the expert's mean Q over the other categories.
    prior: (R,), the shares of the categories.
    """
    means, items = np.zeros((len(rows), len(experts))), np.zeros((len(rows), len(experts)))
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            means[rows.index(category), experts.index(expert)] = mean
            items[rows.index(category), experts.index(expert)] = n
    return shrunk(means * items, items, prior, shrinkage)


def shrunk(sums: Floats, items: Floats, prior: Floats, shrinkage: float) -> Floats:
    """`fit_level2` of the sums of scores (R, E) and the numbers of items (R, E)."""
    overall = sums.sum(axis=0) / items.sum(axis=0)
    measured = items > 0
    if np.isinf(shrinkage):
        q = np.where(measured, overall, 0.0)
    else:
        q = (sums + shrinkage * overall) / np.maximum(items + shrinkage, 1e-12)
    known_rows = measured.any(axis=1)
    least = np.where(measured, q, np.inf).min(axis=1, keepdims=True)
    q = np.where(measured, q, np.maximum(np.minimum(overall, least) - _JUST, 0.0))
    shares = prior[known_rows]
    q[~known_rows] = np.average(q[known_rows], axis=0, weights=shares if shares.sum() > 0 else None)
    return q


def _prior(shares: Mapping[str, float], rows: tuple[str, ...]) -> Floats:
    unknown = [category for category in shares if category not in rows]
    values = np.array([shares.get(category, 0.0) for category in rows], np.float64)
    if unknown or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"prior must give shares >= 0 of {', '.join(rows)}; got {dict(shares)}")
    shares_of_one: Floats = values / values.sum()
    return shares_of_one


def _checked(
    prompts: Sequence[str], categories: Sequence[str], quality: Quality, general: str, fallback: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(category names of the classifier, expert names), both sorted."""
    if len(prompts) != len(categories):
        raise ValueError(f"every prompt needs a category; got {len(prompts)} prompts and {len(categories)} categories")
    counts = Counter(categories)
    if not counts:
        raise ValueError("there are no training prompts; a router needs at least one category")
    few = [f"{category}: {n}" for category, n in sorted(counts.items()) if n < LEAST_PROMPTS]
    if few:
        raise ValueError(f"a category needs at least {LEAST_PROMPTS} training prompts; got {', '.join(few)}")
    unknown = sorted(category for category in quality if category not in counts and category != general)
    if unknown:
        raise ValueError(f"quality has categories without training prompts: {', '.join(unknown)}")
    totals: Counter[str] = Counter()
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            if not 0 <= mean <= 1 or n < 0:
                raise ValueError(
                    f"quality of {expert} in {category} must be a mean in [0, 1] of n >= 0 items; got {(mean, n)}"
                )
            totals[expert] += n
    bare = sorted(c for c in counts if c != general and not any(n for _, n in quality.get(c, {}).values()))
    if bare:
        raise ValueError(f"no expert was measured in {', '.join(bare)}: measure one there or leave its prompts out")
    idle = sorted(expert for expert, n in totals.items() if n == 0)
    if idle or not totals:
        raise ValueError(f"experts without a measured item: {', '.join(idle) or 'there is no expert at all'}")
    if fallback is not None and fallback not in totals:
        raise ValueError(f"the fallback {fallback!r} has no measured quality; experts: {', '.join(sorted(totals))}")
    return tuple(sorted(counts)), tuple(sorted(totals))
