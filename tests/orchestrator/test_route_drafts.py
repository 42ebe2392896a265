"""The drafts of a route, and aggregators on them, with workers that speak when they are told to."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from aggregators.base import Draft, Part, Request, Seat
from aggregators.registry import build
from orchestrator.calls import Calls
from orchestrator.drafting import RouteDrafts, several
from orchestrator.events import Answered, Ask
from orchestrator.expert_states import ExpertStates
from orchestrator.ledger import Ledger
from tests.orchestrator.parts import GENERALIST, MATH, REGISTRY, SQL, saying
from workers.base import ChatCall, Delta, Event, Finish, Usage, WorkerStats


class Stages:
    """Workers whose experts speak when they are told to."""

    def __init__(self) -> None:
        self.turns: dict[str, asyncio.Queue[Event | BaseException]] = {}
        self.closed: list[str] = []
        self.calls: list[ChatCall] = []

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        self.calls.append(call)
        turns = self.turns.setdefault(call.expert, asyncio.Queue())
        try:
            while True:
                event = await turns.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.closed.append(call.expert)

    def say(self, expert: str, *words: str, end: bool = False) -> None:
        turns = self.turns.setdefault(expert, asyncio.Queue())
        for word in words:
            turns.put_nowait(Delta(word))
        if end:
            turns.put_nowait(Finish("stop", expert, Usage(1, len(words))))

    async def stats(self) -> dict[str, WorkerStats | str]:
        return {}


def drafts_of(stages: Stages, *experts: str) -> RouteDrafts:
    return RouteDrafts(request(*experts), ledger(stages))


def ledger(stages: Stages) -> Ledger:
    ask = Ask("req-1", "auto", ({"role": "user", "content": "sql"},), "sql", float("inf"))
    return Ledger(ask, Calls(stages, ExpertStates(REGISTRY, stages.stats), REGISTRY, {}, (0.01, 0.02)), REGISTRY)


def request(*experts: str) -> Request:
    seats = tuple(Seat(expert, 1 / len(experts)) for expert in experts)
    return Request("req-1", ({"role": "user", "content": "sql"},), "sql", None, seats, experts)


async def test_drafts_are_asked_in_waves_and_read_again() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL, MATH, GENERALIST)
    assert [event async for event in drafts] == []
    drafts.ask(2)
    drafts.ask(1)
    stages.say(MATH, "b", end=True)
    stages.say(SQL, "a", end=True)
    first = [event async for event in drafts]
    assert sorted(event.text for event in first) == ["a", "b"]
    assert GENERALIST not in stages.turns
    drafts.ask(9)
    stages.say(GENERALIST, "c", end=True)
    assert [event async for event in drafts] == [Draft(GENERALIST, 2, 1 / 3, "c")]
    await drafts.aclose()


async def test_a_draft_tells_beside_whose_drafts_it_is_made() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL, MATH, GENERALIST)
    drafts.ask(2)
    while len(stages.calls) < 2:
        await asyncio.sleep(0)
    stages.say(SQL, "a", end=True)
    assert await anext(drafts) == Draft(SQL, 0, 1 / 3, "a")
    drafts.ask(3)
    while len(stages.calls) < 3:
        await asyncio.sleep(0)
    stages.say(MATH, "b", end=True)
    stages.say(GENERALIST, "c", end=True)
    assert len([event async for event in drafts]) == 2
    assert [(call.expert, call.beside) for call in stages.calls] == [(SQL, ()), (MATH, (SQL,)), (GENERALIST, (MATH,))]
    await drafts.aclose()


async def test_a_watched_draft_comes_in_parts_from_its_beginning() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL, MATH)
    drafts.ask(2)
    stages.say(SQL, "one ", "two ")
    stages.say(MATH, "unseen", end=True)
    assert await anext(drafts) == Draft(MATH, 1, 0.5, "unseen")
    drafts.watch(0)
    assert await anext(drafts) == Part(0, "one two ")
    stages.say(SQL, "three", end=True)
    assert [event async for event in drafts] == [Part(0, "three"), Draft(SQL, 0, 0.5, "one two three")]
    await drafts.aclose()


async def test_a_draft_that_has_ended_can_still_be_watched() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL)
    drafts.ask(1)
    stages.say(SQL, "all of it", end=True)
    while not stages.closed:
        await asyncio.sleep(0)
    drafts.watch(0)
    assert [event async for event in drafts] == [Part(0, "all of it"), Draft(SQL, 0, 1.0, "all of it")]


async def test_a_cancelled_draft_is_aborted_and_never_comes() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL, MATH)
    drafts.watch(0)
    drafts.ask(2)
    stages.say(SQL, "too ")
    assert await anext(drafts) == Part(0, "too ")
    stages.say(SQL, "late")
    drafts.cancel(0)
    drafts.cancel(7)
    stages.say(MATH, "b", end=True)
    assert [event async for event in drafts] == [Draft(MATH, 1, 0.5, "b")]
    assert SQL in stages.closed
    await drafts.aclose()


async def test_closing_waits_until_every_call_is_closed() -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL, MATH)
    drafts.ask(2)
    while len(stages.turns) < 2:
        await asyncio.sleep(0)
    await drafts.aclose()
    assert sorted(stages.closed) == [MATH, SQL]
    assert [event async for event in drafts] == []


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError("a secret")])
async def test_a_call_that_is_torn_down_below_is_a_failed_draft(error: BaseException) -> None:
    stages = Stages()
    drafts = drafts_of(stages, SQL)
    drafts.ask(1)
    stages.turns[SQL] = asyncio.Queue()
    stages.turns[SQL].put_nowait(error)
    [draft] = [event async for event in drafts]
    assert draft == Draft(SQL, 0, 1.0, error="internal error", code="internal")
    await drafts.aclose()


@pytest.mark.parametrize("order", [(SQL, MATH, GENERALIST), (GENERALIST, MATH, SQL), (MATH, GENERALIST, SQL)])
@pytest.mark.parametrize("aggregator", ["vote", "judge", "synthesize", "cascade"])
async def test_no_order_of_arrival_changes_the_answer(aggregator: str, order: tuple[str, ...]) -> None:
    class Ordered(Stages):
        """The next draft ends when the one before it has; calls of the aggregator's own are answered at once."""

        async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
            if call.messages[-1]["content"] == "sql":
                while len(self.closed) < order.index(call.expert):
                    await asyncio.sleep(0)
            yield Delta(saying(call))
            self.closed.append(call.expert)
            yield Finish("stop", call.expert, Usage())

    made = several(build()[aggregator], request(SQL, MATH, GENERALIST), ledger(Ordered()))
    text = "".join([event.text async for event in made if isinstance(event, Delta)])
    assert text == {"judge": "it is 42", "synthesize": "they say 42"}.get(aggregator, "sql does not know")


class Sampled(Stages):
    """The samples of one expert: 7, 8, 8, by the id of the call."""

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        yield Delta("7" if call.request_id == "req-1" else "8")
        yield Finish("stop", call.expert, Usage(1, 1))


async def test_one_expert_may_have_several_seats() -> None:
    made = [event async for event in several(build()["vote"], request(SQL, SQL, SQL), ledger(Sampled()))]
    end = made[-1]
    assert isinstance(end, Answered)
    assert (made[0], end.used) == (Delta("8"), (SQL, SQL, SQL))
    assert end.usage_by_expert == {SQL: Usage(3, 3)}
