"""The planner against all plans there are."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routers.two_level.planner import Limit, PlanError, plan

PATIENT = settings(deadline=None, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def value(choice: tuple[int, ...], quality: np.ndarray, prior: np.ndarray) -> float:
    return float(sum(prior[c] * quality[c, e] for c, e in enumerate(choice)))


def allowed(
    choice: tuple[int, ...],
    prior: np.ndarray,
    params: np.ndarray,
    total: float | None,
    active: float | None,
    fixed: dict[int, int],
    limits: list[Limit],
) -> bool:
    usages = [[np.asarray(limit.usage)[c, e] for c, e in enumerate(choice)] for limit in limits]
    return (
        (total is None or params[list(set(choice))].sum() <= total)
        and (active is None or sum(prior[c] * params[e] for c, e in enumerate(choice)) <= active + 1e-9)
        and all(choice[c] == e for c, e in fixed.items())
        and all(np.all(used <= np.asarray(limit.each)) for used, limit in zip(usages, limits, strict=True))
        and all(limit.mean is None or prior @ used <= limit.mean for used, limit in zip(usages, limits, strict=True))
    )


@PATIENT
@given(st.data())
def test_the_plan_is_the_best_of_all_plans(data: st.DataObject) -> None:
    categories, experts = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    quality = rng.random((categories, experts))
    prior = rng.dirichlet(np.ones(categories))
    params = rng.integers(1, 30, experts)
    total = data.draw(st.none() | st.integers(1, 80))
    active = data.draw(st.none() | st.integers(1, 30))
    pinned = data.draw(st.none() | st.integers(0, experts - 1))
    fixed = {} if pinned is None else {0: pinned}
    limits = [
        Limit(name, rng.random(quality.shape), each=rng.uniform(0.4, 1.2, categories), mean=mean)
        for name, mean in (("latency", None), ("energy", float(rng.uniform(0.2, 1.0))))
        if data.draw(st.booleans())
    ]
    plans = [
        choice
        for choice in itertools.product(range(experts), repeat=categories)
        if allowed(choice, prior, params, total, active, fixed, limits)
    ]
    if not plans:
        with pytest.raises(PlanError, match=r"cannot be met|no expert keeps the limit|its limits exclude"):
            plan(quality, prior, params, total, active, fixed, limits)
        return
    found = tuple(plan(quality, prior, params, total, active, fixed, limits).tolist())
    assert found in plans
    best = max(value(choice, quality, prior) for choice in plans)
    assert value(found, quality, prior) == pytest.approx(best, abs=1e-7)


def test_without_budgets_every_category_gets_its_best() -> None:
    assert plan([[0.1, 0.9], [0.8, 0.2]], [0.5, 0.5], [1, 1]).tolist() == [1, 0]


def test_a_total_budget_shares_one_expert() -> None:
    quality = [[0.9, 0.0, 0.7], [0.0, 0.9, 0.7]]
    assert plan(quality, [0.5, 0.5], [7e9, 7e9, 8e9], total_budget=14e9).tolist() == [0, 1]
    assert plan(quality, [0.5, 0.5], [7e9, 7e9, 8e9], total_budget=13e9).tolist() == [2, 2]


def test_an_active_budget_keeps_the_large_expert_for_the_rare_category() -> None:
    quality = [[0.5, 0.9], [0.5, 0.9]]
    assert plan(quality, [0.9, 0.1], [1e9, 7e9], active_budget=2e9).tolist() == [0, 1]


def test_a_limit_of_a_category_excludes_the_slow_expert_there_only() -> None:
    quality, seconds = [[0.5, 0.9], [0.5, 0.9]], Limit("latency", [1.0, 3.0], each=[2.0, 4.0])
    assert plan(quality, [0.5, 0.5], [1, 1], limits=[seconds]).tolist() == [0, 1]


def test_a_mean_limit_spends_where_most_is_gained() -> None:
    quality, joules = [[0.5, 0.6], [0.5, 0.9]], Limit("energy", [[1, 5], [1, 5]], mean=3.0)
    assert plan(quality, [0.5, 0.5], [1, 1], limits=[joules]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("limit", "fixed", "message"),
    [
        (Limit("cost", [2.0, 3.0], each=[5.0, 1.0]), {}, "limit of cost in category 1: the least is 2, allowed are 1"),
        (Limit("cost", [2.0, 3.0], mean=1.5), {}, "mean cost of 1.5 cannot be met: the least that a plan uses is 2;"),
        (Limit("cost", [2.0, 3.0], each=2.5), {0: 1}, "category 0 must have expert 1, which its limits exclude"),
        (Limit("cost", [2.0]), {}, r"usage must be \(2, 2\) or \(2,\), each \(2,\) or one number; got shapes \(1,\)"),
        (Limit("cost", [2.0, 3.0], each=[1.0]), {}, r"got shapes \(2,\) and \(1,\)"),
        (Limit("cost", [2.0, -3.0]), {}, "usage must be finite and at least 0"),
        (Limit("cost", [2.0, 3.0], each=float("nan")), {}, "each a number"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_told(limit: Limit, fixed: dict[int, int], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan([[0.5, 0.9], [0.5, 0.9]], [0.5, 0.5], [1, 1], fixed=fixed, limits=[limit])


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"total_budget": 5}, r"total_budget of 5 .* the smallest expert has 10"),
        ({"active_budget": 5}, r"active_budget of 5 .* the least that a plan uses is 10;"),
        ({"total_budget": 5, "active_budget": 50}, r"^total_budget of 5"),
        ({"total_budget": 50, "active_budget": 5}, r"^active_budget of 5"),
        ({"total_budget": 35, "active_budget": 25, "fixed": {0: 1}}, r"active_budget of 25 .* together"),
        ({"total_budget": 20, "fixed": {0: 1}}, r"total_budget of 20 .* those that are fixed 30"),
    ],
)
def test_the_budget_that_cannot_be_met_is_named(budgets: dict[str, float], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan([[0.5, 0.9], [0.5, 0.9]], [0.5, 0.5], [10, 30], **budgets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quality", "prior", "params", "message"),
    [
        ([[1.0]], [0.5, 0.5], [1], "shapes"),
        ([[]], [1.0], [], "none of them empty"),
        ([[float("nan")]], [1.0], [1], "finite"),
        ([[1.0], [1.0]], [0.5, 0.6], [1], "sum 1.1"),
        ([[1.0], [1.0]], [1.5, -0.5], [1], "minimum -0.5"),
        ([[1.0]], [1.0], [0], "positive"),
    ],
)
def test_unusable_input_is_told(
    quality: list[list[float]], prior: list[float], params: list[int], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        plan(quality, prior, params)


def test_fixing_what_does_not_exist_is_told() -> None:
    with pytest.raises(PlanError, match="category 0 expert 2; there are 1 categories, 2 experts"):
        plan([[0.1, 0.9]], [1.0], [1, 1], fixed={0: 2})
