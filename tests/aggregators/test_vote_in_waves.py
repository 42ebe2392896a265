"""Votes that ask a few first: who is asked when, and that patience decides no more than it may."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregators.base import Draft, NoDraft
from aggregators.vote import Vote
from tests.aggregators.parts import draft, run, run_now

WAVES = Vote(waves=True)
WEIGHTS = (0.26, 0.22, 0.19, 0.17, 0.16)


def five(*texts: str | None) -> list[Draft]:
    """A seat whose text is None fails."""
    return [
        draft(rank, weight, text or "", None if text else "down")
        for rank, (weight, text) in enumerate(zip(WEIGHTS, texts, strict=True))
    ]


async def test_those_who_can_decide_it_are_asked_and_no_others_if_they_do() -> None:
    text, verdict, arrivals = await run(WAVES, five("7", "7.0", "The answer is 7.", "8", "8"))
    assert (text, verdict.used, verdict.note) == ("7", ("e0", "e1", "e2"), "vote decided after 3 of 5")
    assert (arrivals.asked, arrivals.taken) == (3, 3)


async def test_the_next_are_asked_as_soon_as_the_first_cannot_decide_it() -> None:
    _, verdict, arrivals = await run(WAVES, five("7", "8", "8", "7", "9"))
    assert (next(iter(verdict.votes)), arrivals.asked) == ("7", 5)
    _, verdict, arrivals = await run(WAVES, five("7", "8", "7", "7", "9"))
    assert (next(iter(verdict.votes)), arrivals.asked) == ("7", 4)


async def test_a_failed_draft_is_replaced_by_the_next_seat() -> None:
    text, verdict, arrivals = await run(WAVES, five("7", None, "7", "7", "7"))
    assert (text, arrivals.asked) == ("7", 3), "0.45 to 0.33 that are out"
    assert verdict.note == "vote decided after 3 of 5; e1 failed; 2 of 5 drafts took part"
    text, verdict, arrivals = await run(WAVES, five(None, None, None, None, "7"))
    assert (text, verdict.winner, arrivals.asked) == ("7", "e4", 5)
    with pytest.raises(NoDraft, match="e0: down; e1: down; e2: down; e3: down; e4: down"):
        await run(WAVES, five(None, None, None, None, None))


async def test_patience_ends_a_vote_that_is_likely_to_stand() -> None:
    drafts = five("7", "7", "8", "8", "8")
    _, verdict, arrivals = await run(WAVES, drafts, patience=0.9)
    assert (next(iter(verdict.votes)), arrivals.asked) == ("7", 2)
    _, verdict, arrivals = await run(WAVES, drafts)
    assert (next(iter(verdict.votes)), arrivals.asked) == ("8", 5)


async def test_patience_means_nothing_where_all_are_asked_at_once() -> None:
    _, verdict, arrivals = await run(Vote(), five("7", "7", "8", "8", "8"), patience=0.0)
    assert (next(iter(verdict.votes)), arrivals.asked) == ("8", 5)


@settings(deadline=None, database=None, max_examples=30)
@given(
    st.lists(st.sampled_from(["7", "8", "9", None]), min_size=5, max_size=5).filter(any),
    st.sampled_from([1.0, 0.8, 0.5]),
)
def test_no_order_of_arrival_changes_answer_text_or_who_is_asked(texts: list[str | None], patience: float) -> None:
    drafts = five(*texts)
    outcomes = set()
    for order in itertools.permutations(drafts):
        text, verdict, arrivals = run_now(WAVES, order, patience=patience)
        outcomes.add((text, verdict.winner, arrivals.asked))
    assert len(outcomes) == 1
    if patience == 1.0:
        text, verdict, _ = run_now(Vote(), drafts)
        assert outcomes == {(text, verdict.winner, next(iter(outcomes))[2])}
