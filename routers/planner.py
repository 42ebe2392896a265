"""Which expert takes which category under parameter budgets.

The mixed-integer program of Composition of Experts (arXiv 2412.01868):

maximise    sum_c prior_c * sum_e quality[c, e] * z[c, e]
where       sum_e z[c, e] = 1                                           one expert for each category
            z[c, e] <= y[e]                                             only experts of the pool
            sum_e params_e * y_e <= total_budget                        what must be stored
            sum_c prior_c * sum_e params_e * z[c, e] <= active_budget   what an average request computes with
            z, y in {0, 1}
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class PlanError(ValueError):
    """The input is not usable or no plan meets the budgets; the message says which of them and what would."""


def plan(
    quality: ArrayLike,
    prior: ArrayLike,
    params: ArrayLike,
    total_budget: float | None = None,
    active_budget: float | None = None,
    fixed: Mapping[int, int] | None = None,
) -> NDArray[np.intp]:
    """The best expert of each category that the budgets allow, as an array (C,) of expert indices.

    quality: (C, E), the expected score of expert e in category c.
    prior: (C,), the share of requests of each category, summing to 1.
    params: (E,), the experts' numbers of parameters.
    total_budget: limit of the parameters of all chosen experts together; None = no limit.
    active_budget: limit of the mean parameters of a request's expert; None = no limit.
    fixed: category -> expert that it must have.
    Solved to optimality by scipy's `milp`, which keeps the budgets to within one part in a million.
    Raises PlanError.
    """
    q, pi, size = _checked(quality, prior, params)
    fixed = _known(fixed or {}, q.shape)
    best = _solve(q, pi, size, total_budget, active_budget, fixed)
    if best is None:
        raise PlanError(_why(q, pi, size, total_budget, active_budget, fixed))
    return best


def _solve(
    q: Floats, pi: Floats, size: Floats, total: float | None, active: float | None, fixed: Mapping[int, int]
) -> NDArray[np.intp] | None:
    """The optimal plan, None if there is none."""
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    categories, experts = q.shape
    pairs = categories * experts
    # Variables: z row by row (index c * E + e), then y.
    lower = np.zeros(pairs + experts)
    lower[[c * experts + e for c, e in fixed.items()]] = 1
    one_each = sparse.hstack(
        [sparse.kron(sparse.eye(categories), np.ones((1, experts))), sparse.csr_array((categories, experts))]
    )
    in_pool = sparse.hstack([sparse.eye(pairs), -sparse.kron(np.ones((categories, 1)), sparse.eye(experts))])
    constraints: list[Any] = [LinearConstraint(one_each, 1, 1), LinearConstraint(in_pool, -np.inf, 0)]
    # Sizes are scaled to at most 1: billions beside ones would make the solver's tolerances meaningless.
    scale = size.max()
    if total is not None:
        row = np.concatenate([np.zeros(pairs), size / scale])
        constraints.append(LinearConstraint(row[None, :], -np.inf, total / scale))
    if active is not None:
        row = np.concatenate([np.outer(pi, size / scale).ravel(), np.zeros(experts)])
        constraints.append(LinearConstraint(row[None, :], -np.inf, active / scale))
    result = milp(
        c=np.concatenate([-(pi[:, None] * q).ravel(), np.zeros(experts)]),
        integrality=np.ones(pairs + experts),
        bounds=Bounds(lower, 1),
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


def _why(
    q: Floats, pi: Floats, size: Floats, total: float | None, active: float | None, fixed: Mapping[int, int]
) -> str:
    """Names the budget that cannot be met: each is tried alone."""
    least = f"the smallest expert has {size.min():,.0f}"
    if fixed:
        least += f" and the largest of those that are fixed {max(size[e] for e in fixed.values()):,.0f}"
    advice = "raise it or add smaller experts"
    if total is not None and _solve(q, pi, size, total, None, fixed) is None:
        return f"total_budget of {total:,.0f} parameters cannot be met: {least}; {advice}"
    if active is not None and _solve(q, pi, size, None, active, fixed) is None:
        return f"active_budget of {active:,.0f} parameters cannot be met: {least}; {advice}"
    return (
        f"total_budget of {total:,.0f} and active_budget of {active:,.0f} parameters cannot be met together, "
        f"each alone can: {least}; raise one of them or add smaller experts"
    )


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
