"""How many experts answer: top-p, a skipped second, and a mean that meets a budget."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.policies.base import Floats
from routers.policies.number import STEP, AtMost, Budget, SkipSecond, TopP, probabilities

QUICK = settings(deadline=None, database=None, max_examples=50)


def p(*values: float) -> Floats:
    return np.array(values)


PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(
    lambda scores: probabilities(np.array(sorted(scores, reverse=True)), 1.0)
)


def test_top_p_keeps_the_expert_that_crosses_tau() -> None:
    assert TopP(0.5)(p(0.6, 0.3, 0.1)) == 1
    assert TopP(0.6)(p(0.6, 0.3, 0.1)) == 1
    assert TopP(0.61)(p(0.6, 0.3, 0.1)) == 2
    assert TopP(0.95)(p(0.6, 0.3, 0.1)) == 3
    assert TopP(1.0)(p(*[0.1] * 10)) == 10
    assert TopP(1.0)(p(1.0, 0.0)) == 1


@QUICK
@given(PROBABILITIES, st.floats(0.01, 1))
def test_top_p_takes_the_fewest_that_reach_tau(shares: Floats, tau: float) -> None:
    n = TopP(tau)(shares)
    assert 1 <= n <= len(shares)
    assert shares[:n].sum() >= tau - 1e-9
    assert n == 1 or shares[: n - 1].sum() < tau


def test_the_second_is_skipped_where_it_is_much_less_likely() -> None:
    rule = SkipSecond(0.5, AtMost(3))
    assert rule(p(0.6, 0.29, 0.11)) == 1
    assert rule(p(0.6, 0.30, 0.10)) == 3
    assert rule(p(1.0)) == 1
    assert SkipSecond(0.5, TopP(0.7))(p(0.6, 0.3, 0.1)) == 2
    assert SkipSecond(0.0, AtMost(2))(p(1.0, 0.0)) == 2


def test_shares_are_sharpened_and_even_where_nothing_is_known() -> None:
    assert probabilities(p(0.9, 0.3), 1.0) == pytest.approx([0.75, 0.25])
    assert probabilities(p(0.9, 0.3), 2.0) == pytest.approx([0.9, 0.1])
    assert probabilities(p(0.0, 0.0), 2.0) == pytest.approx([0.5, 0.5])


def flat(source: random.Random, n: int) -> Floats:
    return p(*[0.2] * 5)


def mixed(source: random.Random, n: int) -> Floats:
    return probabilities(np.sort([source.random() for _ in range(5)])[::-1], 2.0)


def drifting(source: random.Random, n: int) -> Floats:
    """Clear prompts and mixed ones, by turns of 500."""
    return mixed(source, n) if n // 500 % 2 else p(1.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("mean", [1.2, 1.5, 2.0, 3.7])
@pytest.mark.parametrize("prompts", [flat, mixed, drifting])
def test_mean_calls_meet_the_budget_within_two_percent(
    prompts: Callable[[random.Random, int], Floats], mean: float
) -> None:
    rule, source = Budget(mean, at_most=4), random.Random(7)
    calls = [rule(prompts(source, n)) for n in range(3000)]
    assert abs(np.mean(calls) / mean - 1) < 0.02
    assert set(calls) <= {1, 2, 3, 4}


@QUICK
@given(st.lists(PROBABILITIES.filter(lambda shares: len(shares) >= 3), max_size=200), st.floats(1, 3))
def test_calls_are_never_further_off_than_promised_whatever_comes(many: list[Floats], mean: float) -> None:
    rule, calls = Budget(mean, at_most=3), 0
    for n, shares in enumerate(many, 1):
        calls += rule(shares)
        assert abs(calls - n * mean) <= 0.5 / STEP + 3 - 1 + 1e-9


def test_several_are_asked_where_experts_are_nearly_equal() -> None:
    rule, source = Budget(1.5, at_most=2), random.Random(1)
    near, far = p(0.52, 0.48), p(0.9, 0.1)
    calls: dict[bool, list[int]] = {True: [], False: []}
    for _ in range(2000):
        is_near = source.random() < 0.5
        calls[is_near].append(rule(near if is_near else far))
    assert np.mean(calls[True][500:]) > 1.95
    assert np.mean(calls[False][500:]) < 1.05


def test_an_outage_does_not_run_up_a_debt() -> None:
    rule, source = Budget(2.0, at_most=3), random.Random(2)
    for _ in range(1000):
        assert rule(p(1.0)) == 1
    calls = [rule(mixed(source, n)) for n in range(300)]
    assert abs(np.mean(calls[-200:]) - 2) < 0.2


@pytest.mark.parametrize("mean", [0.9, 3.1])
def test_a_mean_that_no_numbers_have_is_refused(mean: float) -> None:
    with pytest.raises(ValueError, match=f"from 1 to at_most, 3; got {mean}"):
        Budget(mean, at_most=3)
