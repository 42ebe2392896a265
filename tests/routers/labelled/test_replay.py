"""Replayed votes end as the vote aggregator ends them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregators.answers import extract
from aggregators.ballot import Ballot
from aggregators.base import Draft
from aggregators.vote import Vote
from routers.labelled.replay import coded, in_waves, winners
from tests.aggregators.parts import run_now


def test_equal_answers_have_equal_codes() -> None:
    answers = np.array([["(B)", "b.", None], ["3.0", "3", "4"]], object)
    codes = coded(answers, extract)
    assert codes[0, 0] == codes[0, 1] >= 0
    assert codes[0, 2] == -1
    assert codes[1, 0] == codes[1, 1] != codes[1, 2]


def test_weight_wins_over_number() -> None:
    codes = np.array([[0, 1, 1]])
    choices = np.array([[0, 1, 2]])
    assert winners(codes, choices, np.array([[0.6, 0.2, 0.2]])).tolist() == [0]
    assert winners(codes, choices, np.array([[0.4, 0.3, 0.3]])).tolist() == [1]


def test_without_a_vote_the_first_choice_wins() -> None:
    assert winners(np.array([[-1, -1, 2]]), np.array([[1, 0]]), np.array([[0.5, 0.5]])).tolist() == [1]


def aggregated(texts: list[str], weights: list[float]) -> str | None:
    drafts = [
        Draft(str(rank), rank, weight, text) for rank, (text, weight) in enumerate(zip(texts, weights, strict=True))
    ]
    _, verdict, _ = run_now(Vote(), drafts)
    return verdict.winner


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C", ""]), st.integers(0, 4)), min_size=1, max_size=5))
def test_it_is_the_aggregator_s_vote(drafts: list[tuple[str, int]]) -> None:
    texts = [text for text, _ in drafts]
    total = sum(weight for _, weight in drafts)
    weights = [weight / total if total else 1 / len(drafts) for _, weight in drafts]
    codes = coded(np.array([texts], object), extract)
    choices = np.arange(len(drafts))[None]
    [winner] = winners(codes, choices, np.array([weights]))
    assert aggregated(texts, weights) == str(winner)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C", None]), st.integers(0, 4)), min_size=1, max_size=6).filter(
        lambda drafts: any(weight for _, weight in drafts)
    ),
    st.sampled_from([1.0, 0.7, 0.4, 0.0]),
)
def test_waves_are_the_aggregator_s(drafts: list[tuple[str | None, int]], patience: float) -> None:
    total = sum(weight for _, weight in drafts)
    weights = [weight / total for _, weight in drafts]
    asked, ballot = 0, Ballot(weights, {})
    while asked < len(drafts) and not ballot.is_decided(asked, patience):
        asked = ballot.wanted(asked, patience)
        ballot = Ballot(weights, {rank: drafts[rank][0] for rank in range(asked)})
    codes = coded(np.array([[answer for answer, _ in drafts]], object), str.strip)
    won, calls = in_waves(codes, np.arange(len(drafts))[None], np.array([weights]), patience)
    assert (int(won[0]), int(calls[0])) == (ballot.winner or 0, asked)
