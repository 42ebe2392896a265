"""Answers that are written from drafts: one writer, layers of rewriting, and one aggregator after another."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregators.base import BrokenOff, Draft, Messages, Part, Piece
from aggregators.fake import Called, Scripted
from aggregators.given import Given
from aggregators.registry import NAMES, make
from aggregators.settings import Settings
from tests.aggregators.judging import judging, shown
from tests.aggregators.parts import draft, request_for, run

THREE = [draft(0, 0.5, "one"), draft(1, 0.3, "two"), draft(2, 0.2, "three")]


def saying(text: str | Exception) -> Scripted:
    return Scripted(lambda *_: text)


# Synthesize


async def test_one_expert_writes_the_answer_from_all_drafts_in_the_route_s_order() -> None:
    experts = saying("a new answer")
    text, verdict, _ = await run(make("synthesize"), [THREE[2], THREE[0], THREE[1]], experts)
    assert (text, verdict.winner, verdict.used) == ("a new answer", None, ("e0", "e1", "e2"))
    assert verdict.note == "e0 wrote the answer from 3 drafts"
    [call] = experts.calls
    assert (call.expert, call.role, call.is_answer) == ("e0", "writer", True)
    assert list(shown(call.messages).values()) == ["one", "two", "three"]


async def test_the_writer_s_words_are_sent_as_they_come() -> None:
    answer = make("synthesize").aggregate(request_for(THREE), Given(THREE), saying("word by word"))
    assert [event async for event in answer][:-1] == [Piece("word b"), Piece("y word")]


async def test_the_writer_gets_the_caller_s_chat_with_the_drafts_in_place_of_the_question() -> None:
    said: tuple[dict[str, Any], ...] = (
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Another one."},
    )
    experts = saying("blue")
    await run(make("synthesize"), THREE, experts, messages=said)
    messages = experts.calls[0].messages
    assert tuple(messages[:-1]) == said[:-1]
    assert messages[-1]["role"] == "user"
    assert messages[-1]["content"].startswith("Another one.\n\nSeveral assistants")


@pytest.mark.parametrize(
    ("reply", "why"), [(RuntimeError("engine_died: down"), "failed (engine_died: down)"), ("", "wrote nothing")]
)
async def test_a_writer_that_never_begins_leaves_the_heaviest_draft(reply: str | Exception, why: str) -> None:
    drafts = [draft(0, 0.2, "one"), draft(1, 0.8, "two")]
    text, verdict, _ = await run(make("synthesize"), drafts, saying(reply))
    assert (text, verdict.winner) == ("two", "e1")
    assert verdict.note == f"the writer e0 {why}; e1's draft has the most weight"


class BreaksOff(Scripted):
    """Says one word and fails."""

    async def generate(self, expert: str, messages: Messages, **how: Any) -> Any:
        self.calls.append(Called(expert, how["role"], messages, True, None, None, 0.0))
        yield Part(0, "word")
        yield Draft(expert, 0, 1.0, error="engine_died: down", code="engine_died")


async def test_a_writer_that_fails_later_breaks_off() -> None:
    answer = make("synthesize").aggregate(request_for(THREE), Given(THREE), BreaksOff())
    assert await anext(answer) == Piece("word")
    with pytest.raises(BrokenOff, match="the answer of e0 broke off: engine_died: down"):
        await anext(answer)


async def test_the_expert_of_the_settings_writes_if_it_may_be_asked() -> None:
    for chosen, writer in (("e2", "e2"), ("other", "other"), ("forbidden", "e0")):
        experts = saying("text")
        candidates = ("e0", "e1", "e2", "other")
        await run(make("synthesize", Settings(expert=chosen)), THREE, experts, candidates=candidates)
        assert experts.calls[0].expert == writer


async def test_the_category_s_best_expert_writes() -> None:
    best = {"math": "e1"}
    experts = saying("text")
    aggregator = make("synthesize", choose=lambda role, category, candidates: best.get(category or "", candidates[-1]))
    await run(aggregator, THREE, experts, category="math")
    await run(aggregator, THREE, experts, category="sql")
    assert [call.expert for call in experts.calls] == ["e1", "e2"]


# Refine


def refining(expert: str, role: str, messages: Messages) -> str | Exception:
    if role == "writer":
        return " + ".join(shown(messages).values())
    if (expert, role) == ("e1", "layer 1"):
        return RuntimeError("engine_died: down")
    return f"{expert} in {role}"


async def test_every_seat_rewrites_with_all_drafts_in_view() -> None:
    experts = Scripted(refining)
    text, verdict, _ = await run(make("refine", Settings(layers=2)), THREE, experts)
    assert text == "e0 in layer 2 + e1 in layer 2 + e2 in layer 2"
    assert [(call.expert, call.role) for call in experts.calls] == [
        *((expert, f"layer {layer}") for layer in (1, 2) for expert in ("e0", "e1", "e2")),
        ("e0", "writer"),
    ]
    assert list(shown(experts.calls[0].messages).values()) == ["one", "two", "three"]
    assert list(shown(experts.calls[3].messages).values()) == ["e0 in layer 1", "two", "e2 in layer 1"]
    assert verdict.note == "2 layers of rewriting, 1 failed; e0 wrote the answer from 3 drafts"


async def test_a_vote_may_end_the_layers() -> None:
    answers = {"e0": "The answer is 7.", "e1": "8", "e2": "7"}
    settings = Settings(end="vote")
    text, verdict, _ = await run(make("refine", settings), THREE, Scripted(lambda expert, *_: answers[expert]))
    assert (text, verdict.winner) == ("The answer is 7.", "e0")
    assert verdict.note.startswith("1 layer of rewriting; vote decided after")


async def test_a_missing_draft_takes_no_part_in_layers() -> None:
    experts = Scripted(refining)
    drafts = [draft(0, 0.5, error="deadline: late"), *THREE[1:]]
    text, verdict, _ = await run(make("refine"), drafts, experts)
    assert text == "two + e2 in layer 1"
    assert verdict.failed == {"e0": "deadline: late"}
    assert verdict.note.endswith("e0 failed; 2 of 3 drafts took part")
    text, verdict, _ = await run(make("refine"), drafts[:2])
    assert (text, verdict.winner, verdict.note) == ("two", "e1", "e0 failed; 1 of 2 drafts took part")


async def test_layers_end_in_time_for_those_after_them() -> None:
    experts = Scripted(refining)
    now = 1e10
    await run(make("refine", Settings(layers=3, reserve_s=10.0)), THREE, experts, deadline=now)
    ends = {call.role: call.deadline for call in experts.calls}
    assert ends == {"layer 1": now - 30, "layer 2": now - 20, "layer 3": now - 10, "writer": float("inf")}


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_are_bounded(layers: int) -> None:
    with pytest.raises(ValueError, match=f"layers must be 1 to 3, got {layers}"):
        make("refine", Settings(layers=layers))


# Cascade


async def test_a_judge_decides_only_where_there_is_nothing_to_vote_on() -> None:
    text, verdict, _ = await run(make("cascade"), [draft(0, 0.6, "It is B. The answer is B."), draft(1, 0.4, "B")])
    assert (text, verdict.votes, verdict.used) == ("It is B. The answer is B.", {"B": 0.6}, ("e0",))
    essays = [draft(0, 0.4, "a long story " * 20), draft(1, 0.3, "a longer story " * 20), draft(2, 0.3, "down", "x")]
    text, verdict, _ = await run(make("cascade"), essays, Scripted(judging(lambda text: 3 + 4 * ("longer" in text))))
    assert (text, verdict.winner) == (essays[1].text, "e1")
    assert verdict.note == (
        "no draft has an answer to vote on; judge e0 chose e1's draft: 7.0 of 10; e2 failed; 2 of 3 drafts took part"
    )


async def test_a_cascade_may_end_in_an_answer_that_is_written() -> None:
    settings = Settings(first="judge", otherwise="synthesize")
    experts = Scripted(lambda expert, role, messages: "rubbish" if role == "judge" else "written")
    text, verdict, _ = await run(make("cascade", settings), THREE, experts)
    assert text == "written"
    assert verdict.note == ("the judge e0 gave no scores that can be used; e0 wrote the answer from 3 drafts")


# All


@pytest.mark.parametrize("name", NAMES)
async def test_leaving_an_answer_closes_the_drafts_and_every_call(name: str) -> None:
    drafts, experts = Given([draft(0, 0.6, "7"), draft(1, 0.4, "8")]), Scripted(judging(lambda _: 5))
    async with aclosing(make(name).aggregate(request_for(THREE[:2]), drafts, experts)) as answer:
        assert isinstance(await anext(answer), Piece)
    assert drafts.closed
    assert experts.open == 0


@pytest.mark.parametrize("name", NAMES)
async def test_cancelling_an_aggregator_that_waits_closes_its_drafts(name: str) -> None:
    class Endless(Given):
        async def __anext__(self) -> Part | Draft:
            waiting.set()
            await asyncio.Event().wait()
            raise AssertionError

    waiting, drafts = asyncio.Event(), Endless([])

    async def caller() -> None:
        async for _ in make(name).aggregate(request_for(THREE), drafts, Scripted()):
            pass

    task = asyncio.create_task(caller())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drafts.closed


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(3)), st.lists(st.sampled_from(["A", "B", "an essay " * 20, ""]), min_size=3, max_size=3))
def test_no_order_of_arrival_changes_what_is_written(order: list[int], texts: list[str]) -> None:
    drafts = [draft(rank, weight, text) for rank, (weight, text) in enumerate(zip((0.5, 0.3, 0.2), texts, strict=True))]
    arrived = [drafts[rank] for rank in order]

    def echo(expert: str, role: str, messages: Messages) -> str | Exception:
        return judging(lambda text: 1 + len(text) % 7, otherwise="+".join(shown(messages).values()))(
            expert, role, messages
        )

    async def both(name: str) -> None:
        one = await run(make(name), drafts, Scripted(echo))
        other = await run(make(name), arrived, Scripted(echo))
        assert (one[0], one[1].winner) == (other[0], other[1].winner)

    for name in ("synthesize", "refine", "cascade"):
        asyncio.run(both(name))


def test_an_unknown_aggregator_is_told_with_those_there_are() -> None:
    with pytest.raises(
        KeyError, match="no aggregator 'best'; use one of single, vote, judge, synthesize, refine, cascade"
    ):
        make("best")
