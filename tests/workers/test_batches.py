"""Events in batches: nothing lost, nothing out of order, and as few as may be."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from workers.base import CallPart, Delta, Event, Failure, Finish, Logprob, TokenLogprobs, Usage
from workers.batches import batches

END = Finish("stop", "a", Usage(1, 3))


class Source:
    """Says what it is given, one event a turn of the loop; `closed` once it is over."""

    def __init__(self, *events: Event | Exception) -> None:
        self._events, self.said, self.closed = events, 0, False

    async def __call__(self) -> AsyncGenerator[Event, None]:
        try:
            for event in self._events:
                await asyncio.sleep(0)
                if isinstance(event, Exception):
                    raise event
                self.said += 1
                yield event
        finally:
            self.closed = True


async def taken(source: Source, every: float, turns: int = 0) -> list[tuple[Event, ...]]:
    """turns: of the loop that the taker needs for each batch."""
    made = []
    async with aclosing(batches(source(), every)) as stream:
        async for batch in stream:
            made.append(batch)
            for _ in range(turns):
                await asyncio.sleep(0)
    return made


async def test_a_quick_taker_gets_each_event_as_it_comes() -> None:
    source = Source(Delta("a"), Delta("b"), Delta("c"), END)
    assert await taken(source, 0.0) == [(Delta("a"),), (Delta("b"),), (Delta("c"),), (END,)]
    assert source.closed


async def test_a_slow_taker_gets_what_has_come_meanwhile_as_one() -> None:
    made = await taken(Source(*(Delta(letter) for letter in "abcdef"), END), 0.0, turns=20)
    assert made == [(Delta("a"),), (Delta("bcdef"), END)]


async def test_who_wants_the_whole_gets_one_batch() -> None:
    [batch] = await taken(Source(*(Delta(letter) for letter in "abc"), END), 60.0)
    assert batch == (Delta("abc"), END)


async def test_a_joined_delta_has_all_that_its_parts_had() -> None:
    first, second = (TokenLogprobs(Logprob(token, -1.0, b"")) for token in "xy")
    [(delta, _)] = await taken(
        Source(
            Delta("a", Usage(1, 1), logprobs=(first,)),
            Delta("b", None, (CallPart(0, "{"),)),
            Delta("", Usage(1, 2), (CallPart(0, "}"),), (second,)),
            END,
        ),
        60.0,
    )
    assert delta == Delta("ab", None, (CallPart(0, "{"), CallPart(0, "}")), (first, second))
    assert isinstance(delta, Delta)
    assert delta.usage == Usage(1, 2)


async def test_answers_side_by_side_stay_apart() -> None:
    made: list[Event] = [Delta("a", choice=0), Delta("b", choice=1), Delta("c", choice=1), END]
    assert await taken(Source(*made), 60.0) == [(Delta("a"), Delta("bc", choice=1), END)]


async def test_a_failure_goes_out_with_what_was_said_before() -> None:
    failure = Failure("engine_died", "gone")
    assert await taken(Source(Delta("a"), failure), 60.0) == [(Delta("a"), failure)]


async def test_what_the_events_raise_is_raised_after_what_they_said() -> None:
    async with aclosing(batches(Source(Delta("a"), ZeroDivisionError())(), 60.0)) as stream:
        assert await anext(stream) == (Delta("a"),)
        with pytest.raises(ZeroDivisionError):
            await anext(stream)


async def test_closing_it_closes_the_events() -> None:
    source = Source(*(Delta("a") for _ in range(1000)), END)
    async with aclosing(batches(source(), 0.0)) as stream:
        await anext(stream)
    assert source.closed
    assert source.said < 1000
