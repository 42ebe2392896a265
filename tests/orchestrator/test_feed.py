"""The feed: what happens is told once to each who looks on, in bounded room, and nothing is asked while nobody does."""

import asyncio

import orjson
import pytest

from orchestrator.access.grant import Grant
from orchestrator.errors import Overloaded
from orchestrator.feed import MOST_OF_KEY, Feed, Reader, Swap, engine_field
from tests.orchestrator.feed_parts import EVERYTHING, Workers, kinds, reading, stats, swap
from workers.base import WorkerStats

# A reader


async def test_a_reader_gets_how_it_is_and_then_what_changes() -> None:
    reader = Reader(EVERYTHING, "a")
    reader.see(stats(active="sql"))
    assert await kinds(reader) == [("engine", "sql")]
    reader.see(stats(active="sql"))
    assert await reader.take(0.01) == []
    reader.see(stats(active="math"), [Swap(1, "small", swap(1, "math"))])
    assert await kinds(reader) == [("swap", "math"), ("engine", "math")]


async def test_a_slow_reader_loses_the_oldest_swaps_and_is_told_so_but_knows_how_it_is() -> None:
    reader = Reader(EVERYTHING, "a", room=3)
    for number in range(10):
        reader.see(stats(active=f"e{number}"), [Swap(number, "small", swap(number, f"e{number}"))])
    assert await kinds(reader) == [("lost", 7), ("swap", "e7"), ("swap", "e8"), ("swap", "e9"), ("engine", "e9")]
    reader.see(stats(active="e10"))
    assert await kinds(reader) == [("engine", "e10")]


async def test_a_reader_sees_nothing_that_names_an_expert_that_its_key_may_not_use() -> None:
    reader = Reader(Grant(experts=("sql",)), "a")
    seen = [Swap(1, "small", swap(1, "math")), Swap(2, "small", swap(2, "sql"))]
    reader.see(stats(active="math", queued_by_expert={"math": 3, "sql": 1}), seen)
    reader.see({"other": WorkerStats("other", {"secret": "device"}), "away": "does not answer"})
    told = orjson.dumps([event.data for event in await reader.take(5)])
    assert b"math" not in told
    assert b"secret" not in told
    assert b'"image":"sql"' in told
    assert b'"queued":{"sql":1}' in told


async def test_a_reader_whose_key_has_scopes_is_told_that_its_engine_is_gone_and_that_it_is_back() -> None:
    reader = Reader(Grant(experts=("sql",)), "a")
    reader.see(stats(active="sql"))
    assert await kinds(reader) == [("engine", "sql")]
    for _ in range(2):
        reader.see({"small": "its worker does not answer: Actor of math died", "other": "its worker does not answer"})
    assert [event.data for event in await reader.take(5)] == [{"family": "small", "why": "its worker does not answer"}]
    reader.see(stats(active="sql"))
    assert await kinds(reader) == [("engine", "sql")]
    reader.grant = Grant(experts=("poet",))
    reader.see(stats(active="sql"))
    assert [event.data["why"] for event in await reader.take(5)] == ["this key may use none of its experts"]


def test_an_engine_tells_up_to_where_its_log_goes() -> None:
    last = [engine_field("small", told)["last_event"] for told in (stats(swap(1), swap(2))["small"], stats()["small"])]
    assert last == [1002.0, None]


# Who looks on


async def test_workers_are_asked_only_while_somebody_looks_on() -> None:
    workers = Workers()
    feed = Feed(workers, look_s=0.001)
    await asyncio.sleep(0.02)
    assert workers.asked == 0
    with reading(feed) as reader:
        assert await kinds(reader) == [("engine", None)]
    await asyncio.sleep(0.01)
    asked = workers.asked
    await asyncio.sleep(0.02)
    assert workers.asked == asked


async def test_a_swap_is_told_once_and_old_ones_are_no_news() -> None:
    workers = Workers(swap(1))
    with reading(Feed(workers, look_s=0.001)) as reader:
        assert await kinds(reader) == [("engine", None)]
        workers.told = stats(swap(1), swap(2, "math"))
        assert await kinds(reader) == [("swap", "math"), ("engine", None)]
        assert await reader.take(0.02) == []


async def test_a_key_has_so_many_streams_and_no_more() -> None:
    feed = Feed(Workers())
    readers = [feed.open(EVERYTHING, "a") for _ in range(MOST_OF_KEY)]
    with pytest.raises(Overloaded, match="8 streams of events of this API key are open"):
        feed.open(EVERYTHING, "a")
    other = feed.open(EVERYTHING, "b")
    for reader in (*readers, other):
        feed.leave(reader)
    assert feed.readers == 0


# The end of a feed


async def test_a_closed_feed_looks_at_nothing() -> None:
    workers = Workers()
    feed = Feed(workers, look_s=0.001)
    with reading(feed) as reader:
        await reader.take(5)
        feed.close("the service stops")
        with reading(feed, "b"):
            asked = workers.asked
            await asyncio.sleep(0.02)
            assert workers.asked == asked


async def test_a_closed_feed_ends_its_streams_and_those_that_come() -> None:
    feed = Feed(Workers(), look_s=0.001)
    with reading(feed) as reader:
        feed.close("the service stops")
        with reading(feed) as late:
            assert reader.ended == late.ended == "the service stops"
