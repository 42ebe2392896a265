"""Intervals cover what they should, calibration errors are what they are by hand, APGR and CPT are RouteLLM's."""

import numpy as np
import pytest

from routers.evaluation.measures import calibration, intervals, trade


def test_an_interval_is_that_of_the_mean_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([0.0, 0.5], 1.0, (400, 2))
    found = intervals(values, seed=3)
    half = 1.96 / np.sqrt(400)
    for (low, high), mean in zip(found, values.mean(axis=0), strict=True):
        assert low == pytest.approx(mean - half, abs=0.02)
        assert high == pytest.approx(mean + half, abs=0.02)
    np.testing.assert_array_equal(intervals(values, seed=3), found)
    assert not np.array_equal(intervals(values, seed=4), found)


def test_intervals_of_pairs_are_paired() -> None:
    score = np.random.default_rng(1).random(200)
    [[low, high]] = intervals(np.stack([(score + 0.1) - score], axis=1))
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)


def test_calibration_by_hand() -> None:
    predicted = np.array([[0.11, 0.13], [0.95, 1.0], [0.5, 0.5]])
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [np.nan, 0.5]])
    found = calibration(predicted, scores)
    # bins: (0.12, 0.5) twice, (0.5, 0.5) once, (0.975, 1) twice
    assert np.array(found.bins) == pytest.approx(np.array([(0.12, 0.5, 2), (0.5, 0.5, 1), (0.975, 1.0, 2)]))
    assert found.ece == pytest.approx((2 * 0.38 + 0 + 2 * 0.025) / 5)
    assert found.brier == pytest.approx((0.11**2 + 0.87**2 + 0.05**2) / 5)


def test_a_perfect_router_spends_calls_where_the_strong_expert_wins() -> None:
    weak = np.array([1.0] * 80 + [0.0] * 20)
    strong = np.ones(100)
    lead = np.linspace(0, 1, 100)
    found = trade(lead, strong, weak)
    assert found is not None
    # Deciles: with 10 % of the calls half of the gap is recovered, with 20 % all of it.
    assert found.strong_share == pytest.approx(np.linspace(0, 1, 11))
    assert found.quality == pytest.approx([0.8, 0.9, *[1.0] * 9])
    assert found.cpt == {50: pytest.approx(0.1), 80: pytest.approx(0.16)}
    assert found.apgr == pytest.approx(0.1 * (0.25 + 0.75) + 0.8)


def test_a_router_without_an_idea_recovers_half_of_the_gap() -> None:
    found = trade(np.zeros(50), np.ones(50), np.zeros(50))
    assert found is not None
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt[80] == pytest.approx(0.8)


def test_there_is_no_trade_where_the_strong_expert_is_not_better() -> None:
    assert trade(np.linspace(0, 1, 20), np.zeros(20), np.zeros(20)) is None
