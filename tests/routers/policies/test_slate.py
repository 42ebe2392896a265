"""Policies that reorder the router's ranking: the price of a load, and the expert of the last turn."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from routers.policies.base import Slate, State
from routers.policies.conversation import Stay
from routers.policies.load_price import LoadPrice

QUICK = settings(deadline=None, database=None, max_examples=100)
EXACT = st.integers(0, 64).map(lambda n: n / 64)
"""Scores whose differences and products with such numbers have no rounding."""


def slate(**scores: float) -> Slate:
    """In the order of a router that ranks by score."""
    names = sorted(scores, key=lambda name: -scores[name])
    return Slate.ranked(names, np.array([scores[name] for name in names]))


def test_an_expert_that_is_put_before_better_ones_counts_as_the_best_of_them() -> None:
    ranked = Slate.ranked(["planned", "best", "third"], np.array([0.3, 0.8, 0.5]))
    assert ranked.scores.tolist() == [0.8, 0.8, 0.5]


# Load price


@QUICK
@example(0.75, 0.5, 16, 1 / 64)  # the gap is the price
@given(EXACT, EXACT, st.integers(0, 30), st.integers(1, 8).map(lambda n: n / 64))
def test_a_resident_expert_wins_exactly_when_the_gap_is_smaller_than_the_price(
    a: float, b: float, seconds: int, weight: float
) -> None:
    best, near = max(a, b), min(a, b)
    ranked = Slate.ranked(["cold", "resident"], np.array([best, near]))
    priced = LoadPrice(weight)(ranked, State(load_s={"cold": float(seconds)}))
    gap, price = Fraction(best) - Fraction(near), Fraction(weight) * seconds
    assert (priced.experts[0] == "resident") == (gap < price)


@QUICK
@given(st.lists(EXACT, min_size=2, max_size=6), st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_scores_of_quality_stay_what_they_are(scores: list[float], seconds: list[int]) -> None:
    names = [f"e{n}" for n in range(len(scores))]
    ranked = Slate.ranked(names, np.array(sorted(scores, reverse=True)))
    priced = LoadPrice(1 / 8)(ranked, State(load_s=dict(zip(names, map(float, seconds), strict=False))))
    assert dict(zip(priced.experts, priced.scores, strict=True)) == dict(
        zip(ranked.experts, ranked.scores, strict=True)
    )
    assert list(priced.net) == sorted(priced.net, reverse=True)


def test_the_reason_tells_what_the_load_would_have_cost() -> None:
    priced = LoadPrice(0.02)(slate(sql=0.9, chat=0.85), State(load_s={"sql": 4.0}))
    assert priced.experts == ("chat", "sql")
    assert priced.notes == ("chat instead of sql, whose load takes 4 s for 0.05 more expected score",)
    assert LoadPrice(0.01)(slate(sql=0.9, chat=0.85), State(load_s={"sql": 4.0})).notes == ()


def test_a_dear_load_moves_an_expert_behind_all_that_are_there() -> None:
    priced = LoadPrice(0.1)(slate(a=0.9, b=0.8, c=0.7), State(load_s={"a": 3.0, "c": 1.0}))
    assert priced.experts == ("b", "a", "c")


# Conversation


@QUICK
@given(EXACT, EXACT, EXACT)
def test_the_last_expert_stays_unless_another_one_is_better_by_more_than_the_margin(
    a: float, b: float, margin: float
) -> None:
    best, last = max(a, b), min(a, b)
    stayed = Stay(margin)(Slate.ranked(["best", "last"], np.array([best, last])), State(last="last"))
    assert (stayed.experts[0] == "last") == (Fraction(best) - Fraction(last) <= Fraction(margin))


def test_the_others_keep_their_order() -> None:
    stayed = Stay(0.3)(slate(a=0.9, b=0.8, c=0.7), State(last="c"))
    assert stayed.experts == ("c", "a", "b")
    assert stayed.scores.tolist() == [0.7, 0.9, 0.8]
    assert stayed.notes == ("c stays from the last turn, within 0.3 of the best",)


@pytest.mark.parametrize("last", [None, "a", "gone"])
def test_nothing_changes_on_a_first_turn_or_when_the_expert_is_first_or_gone(last: str | None) -> None:
    before = slate(a=0.9, b=0.8)
    assert Stay(1.0)(before, State(last=last)) is before


@QUICK
@given(EXACT, EXACT, st.integers(1, 9))
def test_a_last_expert_that_was_evicted_pays_for_its_load(a: float, b: float, seconds: int) -> None:
    assume(a >= b)
    state = State(load_s={"last": float(seconds)}, last="last")
    priced = LoadPrice(1 / 64)(Slate.ranked(["best", "last"], np.array([a, b])), state)
    stayed = Stay(8 / 64)(priced, state)
    net_gap = Fraction(a) - Fraction(b) + Fraction(seconds, 64)
    assert (stayed.experts[0] == "last") == (net_gap <= Fraction(8, 64))
