"""The rule of a vote: who wins, when it is decided, and who is asked next."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregators.ballot import Ballot

Votes = list[tuple[float, str | None]]


def ballot(weights: Sequence[float], *answers: str | None) -> Ballot:
    """The first seats are in."""
    return Ballot(weights, dict(enumerate(answers)))


def test_most_weight_wins_and_the_best_rank_among_its_votes() -> None:
    found = ballot([0.4, 0.3, 0.3], "A", "B", "B")
    assert found.totals == {"B": pytest.approx(0.6), "A": pytest.approx(0.4)}
    assert list(found.totals) == ["B", "A"]
    assert found.winner == 1


def test_a_tie_goes_to_the_heaviest_vote_then_to_the_best_rank() -> None:
    assert ballot([0.25, 0.25, 0.5], "A", "A", "B").winner == 2
    assert ballot([0.25, 0.25, 0.25, 0.25], "A", "B", "B", "A").winner == 0
    assert ballot([0.1 + 0.2, 0.3], "B", "A").winner == 0, "equal but for the last bit"


def test_nobody_has_a_vote() -> None:
    found = ballot([0.5, 0.5], None, None)
    assert (found.totals, found.winner, found.is_decided(2)) == ({}, None, False)


def test_it_is_decided_when_the_rest_cannot_change_it() -> None:
    assert ballot([0.4, 0.35, 0.25], "A", "A").is_decided(2)
    assert not ballot([0.4, 0.35, 0.25], "A", "B").is_decided(2)
    assert ballot([0.4, 0.35, 0.25], "A", None).is_decided(2), "0.4 to 0.25"
    assert not ballot([0.5, 0.5], "A").is_decided(2), "the rest can still tie"


def test_a_seat_that_may_give_the_text_is_waited_for() -> None:
    weights = [0.2, 0.4, 0.4]
    assert not Ballot(weights, {1: "A", 2: "A"}).is_decided(3)
    assert Ballot(weights, {0: None, 1: "A", 2: "A"}).is_decided(3)


def test_patience_needs_the_whole_wave_and_two_seats() -> None:
    weights = [0.25, 0.25, 0.2, 0.2, 0.1]
    assert not ballot(weights, "A", "A").is_decided(2)
    assert ballot(weights, "A", "A").is_decided(2, patience=0.9)
    assert not ballot(weights, "A", "A").is_decided(3, patience=0.9), "one that was asked is still out"
    assert not ballot([0.45, 0.3, 0.25], "A").is_decided(1, patience=0.1), "a single vote agrees with nobody"


def test_asked_are_as_few_as_can_decide() -> None:
    weights = [0.26, 0.22, 0.19, 0.17, 0.16]
    assert ballot(weights).wanted(0) == 3
    assert ballot(weights).wanted(0, patience=0.7) == 2
    assert ballot(weights, "A").wanted(2, patience=0.7) == 2, "the second may agree"
    assert ballot(weights, "A", "B").wanted(2, patience=0.7) == 4
    assert ballot(weights, "A", "A").wanted(5) == 5, "nobody is sent home"
    assert ballot([1.0]).wanted(0) == 1
    assert ballot([0.0, 0.0]).wanted(0) == 2


def test_more_are_asked_before_the_last_one_is_in_if_it_cannot_decide() -> None:
    weights = [0.26, 0.22, 0.19, 0.17, 0.16]
    assert ballot(weights, "A", "B").wanted(3) == 4
    assert ballot(weights, None, None).wanted(3) == 4


def one_by_one(votes: Votes, patience: float) -> tuple[int, int | None]:
    """(seats asked, winner) if each is asked when the one before it is in: the rule in its plainest form."""
    weights = [weight for weight, _ in votes]
    for count in range(1, len(votes)):
        found = ballot(weights, *(answer for _, answer in votes[:count]))
        share = patience if count > 1 else 1.0
        first, second, *_ = [*found.totals.values(), 0.0, 0.0]
        if found.totals and first - second > share * sum(weights[count:]) + 1e-6:
            return count, found.winner
    return len(votes), ballot(weights, *(answer for _, answer in votes)).winner


def in_waves(votes: Votes, patience: float, arrive: random.Random) -> tuple[int, int | None]:
    """(seats asked, winner) as an aggregator asks, with answers that come in any order."""
    weights = [weight for weight, _ in votes]
    answers: dict[int, str | None] = {}
    asked = ballot(weights).wanted(0, patience)
    while True:
        out = [rank for rank in range(asked) if rank not in answers]
        if not out:
            return asked, Ballot(weights, answers).winner
        rank = arrive.choice(out)
        answers[rank] = votes[rank][1]
        found = Ballot(weights, answers)
        if found.is_decided(asked, patience):
            return asked, found.winner
        asked = found.wanted(asked, patience)


@st.composite
def routes(draw: st.DrawFn) -> Votes:
    """Votes of a route in its order: weights fall and sum to 1, many are equal."""
    shares = sorted(draw(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any)), reverse=True)
    answers = draw(st.lists(st.sampled_from(["A", "B", "C", None]), min_size=len(shares), max_size=len(shares)))
    return [(share / sum(shares), answer) for share, answer in zip(shares, answers, strict=True)]


@settings(deadline=None, database=None, max_examples=300)
@given(routes(), st.sampled_from([1.0, 0.8, 0.5, 0.3, 0.0]), st.randoms(use_true_random=False))
def test_waves_ask_no_more_than_one_by_one_and_find_the_same(
    votes: Votes, patience: float, arrive: random.Random
) -> None:
    assert in_waves(votes, patience, arrive) == one_by_one(votes, patience)


@settings(deadline=None, database=None, max_examples=100)
@given(routes(), st.randoms(use_true_random=False))
def test_with_patience_1_the_winner_is_that_of_all_votes(votes: Votes, arrive: random.Random) -> None:
    everybody = ballot([weight for weight, _ in votes], *(answer for _, answer in votes))
    assert in_waves(votes, 1.0, arrive)[1] == everybody.winner


@settings(deadline=None, database=None, max_examples=50)
@given(routes().filter(lambda votes: len(votes) < 5))
def test_no_order_of_arrival_changes_what_is_decided(votes: Votes) -> None:
    """All seats asked at once: whenever it is decided, the winner is that of all votes."""
    weights = [weight for weight, _ in votes]
    everybody = ballot(weights, *(answer for _, answer in votes))
    for order in itertools.permutations(range(len(votes))):
        for count in range(1, len(votes) + 1):
            found = Ballot(weights, {rank: votes[rank][1] for rank in order[:count]})
            if found.is_decided(len(votes)):
                assert found.winner == everybody.winner
                break
