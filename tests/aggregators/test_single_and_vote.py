"""Many drafts, one answer: who wins, when it is known, what happens to the rest."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregators.base import Draft, NoDraft, Piece, Verdict
from aggregators.fake import Scripted
from aggregators.given import Given
from aggregators.registry import make
from aggregators.single import Single
from aggregators.vote import Vote
from tests.aggregators.parts import draft, request_for, run, run_now

PATIENT = settings(deadline=None, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


# Single


async def test_single_asks_the_next_rank_only_when_the_one_before_has_failed() -> None:
    text, verdict, arrivals = await run(Single(), [draft(1, 0.3, "second"), draft(0, 0.5, "first"), draft(2, 0.2, "x")])
    assert (text, verdict.winner, verdict.used, verdict.failed, verdict.note) == ("first", "e0", ("e0",), {}, "")
    assert (arrivals.asked, arrivals.taken) == (1, 1)
    drafts = [draft(2, 0.2, "third"), draft(0, 0.5, error="down"), draft(1, 0.3, error="late"), draft(3, 0.0, "x")]
    text, verdict, arrivals = await run(Single(), drafts)
    assert (text, verdict.winner, verdict.failed) == ("third", "e2", {"e0": "down", "e1": "late"})
    assert verdict.note == "e0 and e1 failed; 1 of 3 drafts took part"
    assert (arrivals.asked, arrivals.taken) == (3, 3)


async def test_single_tells_that_the_answer_was_cut() -> None:
    _, verdict, _ = await run(Single(), [Draft("e0", 0, 1.0, "cut", finish_reason="length")])
    assert verdict.finish_reason == "length"


async def test_an_empty_draft_is_an_answer_without_pieces() -> None:
    text, verdict, _ = await run(Single(), [draft(0, 0.6, ""), draft(1, 0.4, "x")])
    assert (text, verdict.winner) == ("", "e0")


# Vote


async def test_vote_takes_the_text_of_the_best_rank_among_the_winners() -> None:
    drafts = [draft(2, 0.3, "It rains. The answer is (B)."), draft(0, 0.4, "A"), draft(1, 0.3, "(B) Paris")]
    text, verdict, _ = await run(Vote(), drafts)
    assert (text, verdict.winner) == ("(B) Paris", "e1")
    assert verdict.used == ("e0", "e1", "e2")
    assert verdict.votes == {"B": pytest.approx(0.6), "A": pytest.approx(0.4)}
    assert list(verdict.votes) == ["B", "A"]


async def test_vote_stops_when_the_rest_cannot_change_the_winner() -> None:
    drafts = [draft(0, 0.4, "7"), draft(2, 0.25, "7.0"), draft(1, 0.35, "8")]
    text, verdict, arrivals = await run(Vote(), drafts)
    assert (text, verdict.used, arrivals.taken) == ("7", ("e0", "e2"), 2)


async def test_vote_waits_for_the_ranks_before_the_leaders_best_one() -> None:
    """Decided by weight after two, but e0 may say 7 too, and then the text is its own."""
    late = [draft(1, 0.4, "It is 7: the answer is 7"), draft(2, 0.4, "7"), draft(0, 0.1, "7.0"), draft(3, 0.1, "7")]
    for order in (late, sorted(late, key=lambda d: d.rank)):
        text, verdict, _ = await run(Vote(), order)
        assert (text, verdict.winner) == ("7.0", "e0")
    failing = [late[0], late[1], draft(0, 0.1, error="down"), late[3]]
    text, verdict, arrivals = await run(Vote(), failing)
    assert (text, verdict.winner, arrivals.taken) == ("It is 7: the answer is 7", "e1", 3)


async def test_vote_goes_on_while_the_rest_can_still_tie() -> None:
    _, verdict, arrivals = await run(Vote(), [draft(1, 0.5, "8"), draft(0, 0.5, "7")])
    assert (verdict.winner, arrivals.taken) == ("e0", 2)


async def test_a_tie_goes_to_the_heaviest_vote_then_to_the_best_rank() -> None:
    _, heavy, _ = await run(Vote(), [draft(0, 0.25, "7"), draft(1, 0.25, "7"), draft(2, 0.5, "8")])
    assert heavy.winner == "e2"
    _, ranked, _ = await run(
        Vote(), [draft(2, 0.25, "8"), draft(1, 0.25, "7"), draft(3, 0.25, "8"), draft(0, 0.25, "7")]
    )
    assert ranked.winner == "e0"


async def test_equal_shares_that_floats_cannot_hold_are_a_tie() -> None:
    _, verdict, _ = await run(
        Vote(), [draft(2, 0.1, "8"), draft(1, 0.2, "8"), draft(0, 0.3, "7"), draft(3, 0.4, "", "down")]
    )
    assert verdict.winner == "e0"


async def test_a_draft_without_a_short_answer_has_no_vote() -> None:
    essay = "It depends on many things that nobody can know before they have tried it for a while. " * 3
    text, verdict, _ = await run(Vote(), [draft(0, 0.6, essay), draft(1, 0.4, "yes")])
    assert (text, verdict.winner, verdict.used, verdict.votes) == ("yes", "e1", ("e0", "e1"), {"yes": 0.4})
    text, verdict, _ = await run(Vote(), [draft(1, 0.4, essay + "!"), draft(0, 0.6, essay)])
    assert (text, verdict.winner, verdict.votes) == (essay, "e0", {})


async def test_vote_survives_missing_drafts() -> None:
    text, verdict, _ = await run(Vote(), [draft(0, 0.7, error="down"), draft(2, 0.1, error="late"), draft(1, 0.2, "7")])
    assert (text, verdict.winner, verdict.used) == ("7", "e1", ("e1",))
    assert verdict.failed == {"e0": "down", "e2": "late"}


ANSWERS = [
    "7",
    "8",
    "9",
    "The answer is 7.",
    "a long story that has far more than twelve words and so it cannot be a vote",
    None,
]


@st.composite
def ballots(draw: st.DrawFn) -> list[Draft]:
    """Drafts of a route in its order: weights sum to 1 and are often equal; some drafts are missing, one never is."""
    texts = draw(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4).filter(lambda found: any(found)))
    shares = draw(st.lists(st.integers(0, 4), min_size=len(texts), max_size=len(texts)).filter(any))
    return [
        draft(rank, share / sum(shares), text or "", None if text else "down")
        for rank, (text, share) in enumerate(zip(texts, sorted(shares, reverse=True), strict=True))
    ]


def outcome(drafts: list[Draft]) -> tuple[str | None, str]:
    """(answer or None where nobody votes, text) by the plain rules when all drafts are known."""
    forms = {"The answer is 7.": "7", ANSWERS[4]: None}
    votes: dict[str, list[Draft]] = {}
    for one in drafts:
        answer = forms.get(one.text, one.text)
        if one.error is None and answer:
            votes.setdefault(answer, []).append(one)
    if not votes:
        return None, min((d for d in drafts if d.error is None), key=lambda d: d.rank).text
    winner = max(
        votes,
        key=lambda a: (
            round(sum(d.weight for d in votes[a]), 9),
            max(d.weight for d in votes[a]),
            -min(d.rank for d in votes[a]),
        ),
    )
    return winner, min(votes[winner], key=lambda d: d.rank).text


@PATIENT
@given(ballots())
def test_no_order_of_arrival_and_no_early_stop_changes_answer_or_text(drafts: list[Draft]) -> None:
    expected = outcome(drafts)
    for order in itertools.permutations(drafts):
        text, verdict, arrivals = run_now(Vote(), order)
        assert (next(iter(verdict.votes), None), text) == expected
        if arrivals.taken == len(drafts):
            everyone = tuple(d.expert for d in drafts if d.error is None)
            assert verdict.used == everyone
            assert set(verdict.failed) == {d.expert for d in drafts} - set(everyone)


@PATIENT
@given(ballots())
def test_single_gives_the_best_draft_there_is_in_any_order(drafts: list[Draft]) -> None:
    best = min((d for d in drafts if d.error is None), key=lambda d: d.rank)
    for order in itertools.permutations(drafts):
        text, verdict, _ = run_now(Single(), order)
        assert (text, verdict.winner) == (best.text, best.expert)


# Both


@pytest.mark.parametrize("name", ["single", "vote"])
async def test_no_draft_at_all_is_an_error_that_names_every_expert(name: str) -> None:
    failures = [draft(1, 0.4, error="late"), draft(0, 0.6, error="down")]
    arrivals = Given(failures)
    with pytest.raises(NoDraft, match="e0: down; e1: late") as caught:
        [event async for event in make(name).aggregate(request_for(failures), arrivals, Scripted())]
    assert [d.expert for d in caught.value.drafts] == ["e0", "e1"]
    assert arrivals.closed


@pytest.mark.parametrize("name", ["single", "vote"])
async def test_the_rest_is_cancelled_before_the_answer_ends(name: str) -> None:
    drafts = [draft(0, 0.8, "7"), draft(1, 0.2, "8")]
    arrivals = Given(drafts)
    answer = make(name).aggregate(request_for(drafts), arrivals, Scripted())
    assert await anext(answer) == Piece("7")
    assert isinstance(await anext(answer), Verdict)
    assert arrivals.closed
    assert arrivals.taken == 1
