"""The search for the best subset against all subsets there are."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routers.two_level.subset_search import Subset, best_subset

PATIENT = settings(deadline=None, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


class Coverage:
    """Value: the share of questions that one member gets right, less a penalty for each pair; bound: without it."""

    def __init__(self, seed: int, items: int) -> None:
        rng = np.random.default_rng(seed)
        self.right = rng.random((30, items)) < rng.uniform(0.1, 0.6, items)
        self.penalty = rng.uniform(0, 0.2, (items, items))
        self.cost = rng.random(items)
        self.asked = 0

    def value(self, subset: Subset) -> float:
        self.asked += 1
        pairs = sum(self.penalty[pair] for pair in itertools.combinations(subset, 2))
        return float(self.right[:, list(subset)].any(axis=1).mean() - pairs)

    def bound(self, chosen: Subset, rest: Subset) -> float:
        return float(self.right[:, [*chosen, *rest]].any(axis=1).mean())


@PATIENT
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(1, 7), size=st.integers(1, 4), budget=st.floats(0.2, 3))
def test_the_subset_is_the_best_of_all_that_fit(seed: int, items: int, size: int, budget: float) -> None:
    world = Coverage(seed, items)

    def fits(subset: Subset) -> bool:
        return bool(world.cost[list(subset)].sum() <= budget)

    everyone = [subset for subset in itertools.combinations(range(items), size) if fits(subset)]
    found = best_subset(range(items), size, world.value, world.bound, fits)
    if not everyone:
        assert found is None
    else:
        assert found in everyone
        assert world.value(found) == pytest.approx(max(map(world.value, everyone)))


def test_the_bound_saves_evaluations() -> None:
    """Two items that know it all: everything else can be cut off."""
    right = np.zeros((20, 12), np.bool_)
    right[:10, 0] = right[10:, 1] = True
    right[::3, 2:] = True
    asked: list[Subset] = []

    def value(subset: Subset) -> float:
        asked.append(subset)
        return float(right[:, list(subset)].any(axis=1).mean())

    found = best_subset(range(12), 2, value, lambda chosen, rest: float(right[:, [*chosen, *rest]].any(axis=1).mean()))
    assert found == (0, 1)
    assert len(asked) < 12 + 11 + 12 * 11 / 2 - 40


def test_without_patience_the_greedy_subset_must_do() -> None:
    world = Coverage(1, 8)
    greedy = best_subset(range(8), 3, world.value, world.bound, patience=0)
    exact = best_subset(range(8), 3, world.value, world.bound)
    assert greedy is not None
    assert exact is not None
    assert world.value(exact) >= world.value(greedy)
    world.asked = 0
    best_subset(range(8), 3, world.value, world.bound, patience=0)
    assert world.asked == 8 + 7 + 6
