"""Which expert takes which category under budgets and limits.

The mixed-integer program of Composition of Experts (arXiv 2412.01868), with the limits of MoE^2 (arXiv 2501.09410):

maximise    sum_c prior_c * sum_e quality[c, e] * z[c, e]
where       sum_e z[c, e] = 1                                           one expert for each category
            z[c, e] <= y[e]                                             only experts of the pool
            sum_e params_e * y_e <= total_budget                        what must be stored
            sum_c prior_c * sum_e params_e * z[c, e] <= active_budget   what an average request computes with
            z[c, e] = 0 where usage[c, e] > each_c                      cost, latency or energy of a category's request
            sum_c prior_c * sum_e usage[c, e] * z[c, e] <= mean         the same of an average request
            z, y in {0, 1}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_SLACK = 1e-9
"""Relative: a usage that equals its limit but for the last bit keeps it."""


class PlanError(ValueError):
    """The input is not usable or no plan meets the budgets; the message says which of them and what would."""


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """How much of one thing requests may use: dollars, seconds, joules.

    name: the thing, for messages.
    usage: (C, E) or (E,), what a request of a category uses if an expert answers it.
    each: (C,) or one number, the most that a request of a category may use; None = no such limit.
    mean: the most that a request may use on average over the categories; None = no such limit.
    """

    name: str
    usage: ArrayLike
    each: ArrayLike | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Mean:
    """sum_c prior_c * sum_e usage[c, e] * z[c, e] <= most."""

    name: str
    usage: Floats
    most: float


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """quality (C, E), prior (C,), size (E,), allowed (C, E): who may take a category; total: None = no limit."""

    quality: Floats
    prior: Floats
    size: Floats
    allowed: NDArray[np.bool_]
    total: float | None
    means: tuple[_Mean, ...]


def plan(
    quality: ArrayLike,
    prior: ArrayLike,
    params: ArrayLike,
    total_budget: float | None = None,
    active_budget: float | None = None,
    fixed: Mapping[int, int] | None = None,
    limits: Sequence[Limit] = (),
) -> NDArray[np.intp]:
    """The best expert of each category that the budgets allow, as an array (C,) of expert indices.

    quality: (C, E), the expected score of expert e in category c.
    prior: (C,), the share of requests of each category, summing to 1.
    params: (E,), the experts' numbers of parameters.
    total_budget: limit of the parameters of all chosen experts together; None = no limit.
    active_budget: limit of the mean parameters of a request's expert; None = no limit.
    fixed: category -> expert that it must have.
    limits: of cost, latency, energy or whatever a request uses.
    Solved to optimality by scipy's `milp`, which keeps the budgets to within one part in a million.
    Raises PlanError.
    """
    q, pi, size = _checked(quality, prior, params)
    allowed, means = np.ones(q.shape, np.bool_), list[_Mean]()
    if active_budget is not None:
        means.append(_Mean("active_budget", np.broadcast_to(size, q.shape), active_budget))
    for limit in limits:
        usage, each = _limit(limit, q.shape)
        allowed &= usage <= each[:, None] * (1 + _SLACK)
        if limit.mean is not None:
            means.append(_Mean(f"mean {limit.name}", usage, limit.mean))
        nobody = np.flatnonzero(~allowed.any(axis=1))
        if len(nobody):
            c = int(nobody[0])
            raise PlanError(
                f"no expert keeps the limit of {limit.name} in category {c}: the least is {_figure(usage[c].min())}, "
                f"allowed are {_figure(each[c])} and what the limits before it allow; raise it or add such an expert"
            )
    for c, e in _known(fixed or {}, q.shape).items():
        if not allowed[c, e]:
            raise PlanError(
                f"category {c} must have expert {e}, which its limits exclude; raise one or free the category"
            )
        allowed[c] = np.arange(q.shape[1]) == e
    problem = _Problem(q, pi, size, allowed, total_budget, tuple(means))
    best = _solve(problem)
    if best is None:
        raise PlanError(_why(problem, fixed or {}))
    return best


def _solve(problem: _Problem) -> NDArray[np.intp] | None:
    """The optimal plan, None if there is none."""
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    categories, experts = problem.quality.shape
    pairs = categories * experts
    # Variables: z row by row (index c * E + e), then y, which only a total budget needs.
    pool = experts if problem.total is not None else 0
    one_each = sparse.kron(sparse.eye(categories), np.ones((1, experts)))
    constraints: list[Any] = [LinearConstraint(sparse.hstack([one_each, sparse.csr_array((categories, pool))]), 1, 1)]
    # Sizes are scaled to at most 1: billions beside ones would make the solver's tolerances meaningless.
    if problem.total is not None:
        in_pool = sparse.hstack([sparse.eye(pairs), -sparse.kron(np.ones((categories, 1)), sparse.eye(experts))])
        constraints.append(LinearConstraint(in_pool, -np.inf, 0))
        scale = problem.size.max()
        row = np.concatenate([np.zeros(pairs), problem.size / scale])
        constraints.append(LinearConstraint(row[None, :], -np.inf, problem.total / scale))
    for mean in problem.means:
        scale = max(float(mean.usage.max()), 1e-300)
        row = np.concatenate([(problem.prior[:, None] * mean.usage / scale).ravel(), np.zeros(pool)])
        constraints.append(LinearConstraint(row[None, :], -np.inf, mean.most / scale))
    gain = (problem.prior[:, None] * problem.quality).ravel()
    result = milp(
        c=np.concatenate([-gain, np.zeros(pool)]),
        integrality=np.ones(pairs + pool),
        bounds=Bounds(0, np.concatenate([problem.allowed.ravel().astype(np.float64), np.ones(pool)])),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if result.status == 2:  # infeasible
        return None
    if result.x is None:
        raise PlanError(f"the solver gave up on {categories} categories and {experts} experts: {result.message}")
    z: Floats = np.asarray(result.x[:pairs]).reshape(categories, experts)
    best: NDArray[np.intp] = z.argmax(axis=1)
    return best


def _why(problem: _Problem, fixed: Mapping[int, int]) -> str:
    """Names the budget that cannot be met: each is tried alone."""
    size, total = problem.size, problem.total
    smallest = f"the smallest expert has {size.min():,.0f}"
    if fixed:
        smallest += f" and the largest of those that are fixed {max(size[e] for e in fixed.values()):,.0f}"
    advice = "raise it or add smaller experts"
    if total is not None and _solve(replace(problem, means=())) is None:
        return f"total_budget of {total:,.0f} parameters cannot be met: {smallest}; {advice}"
    names = [] if total is None else [f"total_budget of {total:,.0f}"]
    for mean in problem.means:
        said = f"{mean.name} of {_figure(mean.most)}"
        if _solve(replace(problem, total=None, means=(mean,))) is None:
            least = float(problem.prior @ np.where(problem.allowed, mean.usage, np.inf).min(axis=1))
            return f"{said} cannot be met: the least that a plan uses is {_figure(least)}; {advice}"
        names.append(said)
    return f"{' and '.join(names)} cannot be met together, each alone can: {smallest}; raise one or add smaller experts"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _limit(limit: Limit, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """usage (C, E) and each (C,), infinite where there is no limit."""
    usage, each = np.asarray(limit.usage, np.float64), np.asarray(np.inf if limit.each is None else limit.each)
    if usage.shape not in (shape, shape[1:]) or each.shape not in ((), shape[:1]):
        raise PlanError(
            f"limit of {limit.name}: usage must be {shape} or {shape[1:]}, each {shape[:1]} or one number; "
            f"got shapes {usage.shape} and {each.shape}"
        )
    if not np.isfinite(usage).all() or (usage < 0).any() or np.isnan(each).any():
        raise PlanError(f"limit of {limit.name}: usage must be finite and at least 0, each a number")
    return np.broadcast_to(usage, shape), np.broadcast_to(each.astype(np.float64), shape[:1])


def _checked(quality: ArrayLike, prior: ArrayLike, params: ArrayLike) -> tuple[Floats, Floats, Floats]:
    q, pi, size = (np.asarray(values, dtype=np.float64) for values in (quality, prior, params))
    if q.ndim != 2 or 0 in q.shape or pi.shape != q.shape[:1] or size.shape != q.shape[1:]:
        raise PlanError(
            "quality must be (C, E), prior (C,), params (E,), none of them empty; "
            f"got shapes {q.shape}, {pi.shape}, {size.shape}"
        )
    if not (np.isfinite(q).all() and np.isfinite(pi).all() and np.isfinite(size).all()):
        raise PlanError("quality, prior and params must be finite numbers")
    if (pi < 0).any() or abs(pi.sum() - 1) > 1e-6:
        raise PlanError(f"prior must be shares that sum to 1; got the sum {pi.sum():g} and the minimum {pi.min():g}")
    if (size <= 0).any():
        raise PlanError(f"params must be positive; got {size.min():g}")
    return q, pi, size


def _known(fixed: Mapping[int, int], shape: tuple[int, ...]) -> Mapping[int, int]:
    for c, e in fixed.items():
        if not (0 <= c < shape[0] and 0 <= e < shape[1]):
            raise PlanError(f"fixed gives category {c} expert {e}; there are {shape[0]} categories, {shape[1]} experts")
    return fixed
