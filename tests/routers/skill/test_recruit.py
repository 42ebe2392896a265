"""Recruitment: P ~ local * global, who is trimmed, and the weights of a route."""

import numpy as np
import pytest

from routers.skill.recruit import Weighting, ranked, recruit, relevance, trimmed

NOBODY = np.zeros(3, np.bool_)


def test_relevance_is_local_times_a_power_of_the_level() -> None:
    expected, level = np.array([[0.8, 0.5, 0.3]]), np.array([0.6, 0.3, 0.3])
    got = relevance(expected, level, Weighting(floor=0.0, power=2.0))[0]
    want = np.array([0.8 * 4, 0.5, 0.3])  # 0.6^2 is four times 0.3^2
    np.testing.assert_allclose(got, want / want.sum())


def test_only_what_lies_over_the_floor_counts_and_global_decides_where_nothing_does() -> None:
    expected, level = np.array([[0.8, 0.5, 0.3], [0.4, 0.1, 0.1]]), np.array([0.5, 0.5, 1.0])
    got = relevance(expected, level, Weighting(floor=0.5, power=1.0))
    np.testing.assert_allclose(got, np.array([[1, 0, 0], [0.25, 0.25, 0.5]]))
    np.testing.assert_allclose(relevance(expected, np.zeros(3), Weighting(1.0, 1.0)), np.full((2, 3), 1 / 3))


def test_trimmed_are_those_below_five_per_cent_of_selections() -> None:
    shares = np.tile([0.4, 0.3, 0.2, 0.1, 0.0], (100, 1))
    assert trimmed(shares).tolist() == [False, False, False, True, True]
    shares[:16, 3] = 0.5  # 16 of 300 selections
    assert trimmed(shares).tolist() == [False, False, False, False, True]


def test_half_of_an_even_share_is_enough_among_many() -> None:
    shares = np.stack([np.roll([0.5, 0.3, 0.2] + [0.0] * 37, i) for i in range(40)])
    assert not trimmed(shares).any()


def test_trimmed_experts_come_last() -> None:
    last = np.array([True, False, False])
    assert ranked(np.array([[0.5, 0.2, 0.3]]), last, 3).tolist() == [[2, 1, 0]]
    order, weights = recruit(np.array([0.5, 0.2, 0.3]), last, np.arange(3), 3)
    assert order.tolist() == [2, 1, 0]
    np.testing.assert_allclose(weights, [0.3, 0.2, 0.2])


def test_only_allowed_experts_are_recruited_with_shares_of_what_is_allowed() -> None:
    order, weights = recruit(np.array([0.5, 0.2, 0.3]), NOBODY, np.array([1, 2]), 5)
    assert order.tolist() == [2, 1]
    assert weights == pytest.approx([0.6, 0.4])
    order, weights = recruit(np.array([0.5, 0.0, 0.0]), NOBODY, np.array([1, 2]), 2)
    assert weights == pytest.approx([0.5, 0.5])
    order, weights = recruit(np.array([0.5, 0.0, 0.0]), NOBODY, np.array([], np.intp), 2)
    assert len(order) == len(weights) == 0
