"""The figures of a profile, from judged answers."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.profile import LARGEST_STEP, Judged, Opinion, Profile, cost, matrix, measure, moved, share, wilson
from experts.spec import Price


def judged(number: int, score: float, **fields: Any) -> Judged:
    return Judged(f"q{number}", "ada", score, **fields)


@pytest.mark.parametrize(
    ("mean", "n", "low", "high"),
    [(0.8, 10, 0.4902, 0.9433), (0.0, 10, 0.0, 0.2775), (1.0, 40, 0.9124, 1.0), (0.5, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_those_of_the_textbook(mean: float, n: int, low: float, high: float) -> None:
    assert wilson(mean, n) == pytest.approx((low, high), abs=1e-4)


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 10**6))
def test_an_interval_holds_its_mean(mean: float, n: int) -> None:
    low, high = wilson(mean, n)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_a_share_has_its_interval() -> None:
    found = share([1.0, 0.0, 0.5, 1.0])
    assert (found.mean, found.n) == (0.625, 4)
    assert (found.low, found.high) == pytest.approx(wilson(0.625, 4), abs=1e-6)


def test_figures_are_by_category_and_skill_without_the_golden_set() -> None:
    rows = [
        judged(1, 1.0, category="a", skills=("x", "y"), seconds=1.0, completion_tokens=10, prompt_tokens=4),
        judged(2, 0.0, category="a", skills=("x",), seconds=3.0, completion_tokens=20, first_token_seconds=0.5),
        judged(3, 1.0, category="b", seconds=2.0),
        judged(4, 0.0, category="b", failure="prompt_too_long", seconds=99.0),
        judged(5, 0.0, category="b", golden=True, seconds=99.0),
    ]
    found = measure(rows, Price(input=1.0, output=2.0), 0.25)
    assert (found.overall.mean, found.overall.n) == (0.5, 4)
    assert {name: (each.mean, each.n) for name, each in found.categories.items()} == {"a": (0.5, 2), "b": (0.5, 2)}
    assert {name: (each.mean, each.n) for name, each in found.skills.items()} == {"x": (0.5, 2), "y": (1.0, 1)}
    assert (found.failed, found.load, found.completion_tokens) == (1, 0.25, 10.0)
    assert (found.latency.p50, found.latency.p95) == (2.0, 2.9)  # of the three that were answered
    assert found.first_token is not None
    assert found.first_token.p50 == 0.5
    assert found.cost == pytest.approx((24 + 40) / 3 / 1e6)
    assert cost(rows[0], Price(input=1.0, output=2.0)) == 24 / 1e6


def test_the_golden_set_alone_makes_no_profile() -> None:
    with pytest.raises(ValueError, match="no answer"):
        measure([judged(1, 1.0, golden=True)], None, None)


def test_a_matrix_has_nan_where_nobody_answered() -> None:
    found = matrix([judged(1, 1.0), judged(9, 1.0)], ["q1", "q2"], ["ada", "bob"])
    assert found[0, 0] == 1.0
    assert [math.isnan(cell) for cell in (found[0, 1], found[1, 0], found[1, 1])] == [True] * 3


def test_quality_is_what_a_two_level_router_is_fitted_on_and_survives_its_file() -> None:
    figures = measure([judged(n, float(n < 7), category="a") for n in range(10)], None, None)
    profile = Profile(labels="gold", questions=10, concurrent=4, experts={"ada": figures})
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert profile.quality() == {"a": {"ada": (0.7, 10)}}
    liked = figures.model_copy(update={"feedback": {"a": Opinion(mean=1.0, n=2.0)}})
    profile = profile.model_copy(update={"experts": {"ada": liked}})
    assert profile.quality() == {"a": {"ada": (0.75, 10)}}
    assert profile.quality(feedback=False) == {"a": {"ada": (0.7, 10)}}


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 500), st.floats(0, 1), st.floats(0, 1e6))
def test_users_move_a_mean_towards_their_word_and_never_far(mean: float, n: int, said: float, count: float) -> None:
    measured = share([mean] * n)
    after = moved(measured, Opinion(mean=said, n=count))
    assert abs(after - measured.mean) <= LARGEST_STEP + 1e-12
    assert min(measured.mean, said) - 1e-9 <= after <= max(measured.mean, said) + 1e-9


def test_without_a_word_a_mean_stays() -> None:
    measured = share([0.3] * 10)
    assert moved(measured, None) == moved(measured, Opinion(mean=1.0, n=0.0)) == measured.mean
