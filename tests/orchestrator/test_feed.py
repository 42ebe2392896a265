"""GET /v1/events: what happens is told to who looks on, in bounded room, and nothing is asked while nobody does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.types import Message

from orchestrator.access.grant import Grant
from orchestrator.errors import Overloaded
from orchestrator.feed import MOST_OF_KEY, Feed, FeedEvent, History, Reader, Swap, engine_field
from orchestrator.http.door import Door
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.events import Events
from orchestrator.store import Store
from tests.orchestrator.parts import LIMITS, Service
from tests.orchestrator.served import Wire, served
from workers.base import SwapEvent, WorkerStats

EVERYTHING = Grant()


def swap(number: int, image: str = "sql") -> SwapEvent:
    return SwapEvent(number, 1000.0 + number, "swap", image, "device", "device", 0, 0.001, "after math")


def stats(*events: SwapEvent, **more: Any) -> dict[str, WorkerStats | str]:
    return {"small": WorkerStats("small", {"sql": "device", "math": "host"}, events=events, **more)}


class Workers:
    """What the workers tell; `asked` counts."""

    def __init__(self) -> None:
        self.told = stats()
        self.asked = 0

    async def __call__(self) -> dict[str, WorkerStats | str]:
        self.asked += 1
        return self.told


async def kinds(reader: Reader) -> list[tuple[str, Any]]:
    """What waits for him: kinds, with the image or what else tells events apart."""
    found = []
    for event in await reader.take(5):
        what = {"swap": "image", "engine": "active", "lost": "swaps", "batch": "status"}[event.kind]
        found.append((event.kind, event.data[what]))
    return found


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


# The feed


async def test_workers_are_asked_only_while_somebody_looks_on() -> None:
    workers = Workers()
    feed = Feed(workers, look_s=0.001)
    await asyncio.sleep(0.02)
    assert workers.asked == 0
    reader = feed.open(EVERYTHING, "a")
    assert await kinds(reader) == [("engine", None)]
    feed.leave(reader)
    await asyncio.sleep(0.01)
    asked = workers.asked
    await asyncio.sleep(0.02)
    assert workers.asked == asked


async def test_a_swap_is_told_once_and_old_ones_are_no_news() -> None:
    workers = Workers()
    workers.told = stats(swap(1))
    feed = Feed(workers, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    assert await kinds(reader) == [("engine", None)]
    workers.told = stats(swap(1), swap(2, "math"))
    assert await kinds(reader) == [("swap", "math"), ("engine", None)]
    assert await reader.take(0.02) == []
    feed.leave(reader)


async def test_who_comes_back_gets_what_he_missed_also_what_nobody_has_seen() -> None:
    workers, history = Workers(), History()
    feed = Feed(workers, history=history, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    await reader.take(5)
    workers.told = stats(swap(1))
    [told, _] = await reader.take(5)
    assert told.number is not None
    feed.leave(reader)
    workers.told = stats(swap(1), swap(2, "math"), active="math")
    later = Feed(workers, history=history, look_s=0.001)  # as of another configuration
    again = later.open(EVERYTHING, "a", history.id(told.number))
    assert await kinds(again) == [("swap", "math"), ("engine", "math")]
    third = later.open(EVERYTHING, "a", history.id(told.number))
    assert (await kinds(third))[0] == ("swap", "math")
    later.leave(again)
    later.leave(third)


async def test_who_leaves_again_before_he_has_what_he_missed_misses_nothing() -> None:
    workers, history = Workers(), History()
    history.learn(stats())
    history.learn(stats(swap(1), swap(2, "math")))
    feed = Feed(workers, history=history, look_s=0.001)
    reader = feed.open(EVERYTHING, "a", history.id(0))
    feed.leave(reader)
    again = feed.open(EVERYTHING, "a", history.id(reader.after))
    assert [told.number for told in await again.take(5) if told.kind == "swap"] == [1, 2]
    feed.leave(again)
    assert feed.open(EVERYTHING, "a").after == 2
    feed.leave(feed._readers[0])


def test_a_worker_that_missed_a_look_is_no_news_when_it_is_back() -> None:
    history = History()
    history.learn(stats(swap(1), swap(2, "math")))
    history.learn(stats(swap(2, "math")))
    learned = history.learn(stats(swap(1), swap(2, "math"), swap(3)))
    assert [one.event for one in learned.swaps] == [swap(3)]


async def test_a_closed_feed_looks_at_nothing() -> None:
    workers = Workers()
    feed = Feed(workers, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    await reader.take(5)
    feed.close("the service stops")
    late = feed.open(EVERYTHING, "b")
    asked = workers.asked
    await asyncio.sleep(0.02)
    assert workers.asked == asked
    feed.leave(reader)
    feed.leave(late)


async def test_batches_that_cannot_be_told_hide_nobody_elses() -> None:
    async def newest(owner: str) -> list[dict[str, Any]]:
        if owner == "a":
            raise RuntimeError("its storage is away")
        return [{"id": "batch_1", "status": "completed"}]

    feed = Feed(Workers(), newest, look_s=0.001)
    first, second = feed.open(EVERYTHING, "a"), feed.open(EVERYTHING, "b")
    while ("batch", "completed") not in await kinds(second):
        pass
    feed.leave(first)
    feed.leave(second)


@pytest.mark.parametrize("last", ["other.1", "", "nonsense", "{epoch}.99", "{epoch}." + "9" * 5000])
async def test_an_id_that_says_nothing_is_a_gap(last: str) -> None:
    history = History()
    feed = Feed(Workers(), history=history, look_s=0.001)
    reader = feed.open(EVERYTHING, "a", last.format(epoch=history.epoch))
    assert ("lost", None) in await kinds(reader)
    feed.leave(reader)


def test_history_forgets_the_oldest_and_says_so() -> None:
    history = History()
    history.learn(stats())
    events = [swap(number) for number in range(3000)]
    history.learn(stats(*events))
    missed, whole = history.since(2999)
    assert ([one.number for one in missed], whole) == ([3000], True)
    missed, whole = history.since(1)
    assert (len(missed), whole) == (2048, False)


def log_of(first: int, last: int, *more: SwapEvent) -> tuple[SwapEvent, ...]:
    """What an engine's log has left."""
    return (*(swap(number) for number in range(first, last + 1)), *more)


SLEPT = SwapEvent(7, 2000.0, "slept", "small", "device", "host", 0, 1.0)


@pytest.mark.parametrize(
    ("known", "now", "gap"),
    [
        (log_of(1, 512), log_of(500, 1011), False),
        (log_of(1, 512), log_of(513, 1024), False),
        (log_of(1, 512), log_of(514, 1025), True),
        (log_of(1, 512, SLEPT), log_of(514, 1025, SLEPT), True),  # a move says nothing of the engine's log
        ((), log_of(1, 512), False),
        ((), log_of(2, 513), True),
        (log_of(5, 9), log_of(1, 3), True),  # an engine begins anew: nobody saw the end of the former log
        (log_of(5, 9), (), True),
        (log_of(5, 9, SLEPT), log_of(1, 3, SLEPT), False),  # of one that slept everybody did
        (log_of(5, 9, SLEPT), log_of(5, 10, SLEPT), False),
    ],
)
def test_a_log_that_shares_nothing_with_what_was_known_of_it_is_a_gap(
    known: tuple[SwapEvent, ...], now: tuple[SwapEvent, ...], gap: bool
) -> None:
    history = History()
    assert not history.learn(stats(*known)).gap
    assert history.learn(stats(*now)).gap == gap


def test_who_comes_back_over_a_gap_has_not_all_and_who_came_behind_it_has() -> None:
    history = History()
    history.learn(stats(*log_of(1, 3)))
    history.learn(stats(*log_of(1, 4)))
    before = history.number
    history.learn(stats(*log_of(10, 12)))
    assert [history.since(number)[1] for number in range(before - 1, history.number + 1)] == [False] * 2 + [True] * 4
    assert [one.event.number for one in history.since(before)[0]] == [10, 11, 12]


async def test_more_swaps_than_a_log_keeps_between_two_looks_are_a_gap_to_who_looks_on() -> None:
    workers = Workers()
    workers.told = stats(*log_of(1, 3))
    feed = Feed(workers, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    await kinds(reader)
    workers.told = stats(*log_of(10, 11))
    assert (await kinds(reader))[:3] == [("lost", None), ("swap", "sql"), ("swap", "sql")]
    feed.leave(reader)


async def test_what_nobody_looked_at_is_a_gap_to_who_comes_back_and_to_nobody_else() -> None:
    workers = Workers()
    workers.told = stats(*log_of(1, 3))
    feed = Feed(workers, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    await kinds(reader)
    feed.leave(reader)
    workers.told = stats(*log_of(10, 11))
    back, new = feed.open(EVERYTHING, "a", feed.history.id(reader.after)), feed.open(EVERYTHING, "b")
    assert ("lost", None) in await kinds(back)
    assert all(kind != "lost" for kind, _ in await kinds(new))
    feed.leave(back)
    feed.leave(new)


async def test_who_leaves_again_before_he_is_told_of_a_gap_is_told_when_he_comes_back() -> None:
    history = History()
    history.learn(stats(*log_of(1, 3)))
    history.learn(stats(*log_of(10, 11)))
    feed = Feed(Workers(), history=history)
    reader = feed.open(EVERYTHING, "a", history.id(0))
    feed.leave(reader)
    again = feed.open(EVERYTHING, "a", history.id(reader.after))
    assert (await kinds(again))[0] == ("lost", None)
    feed.leave(again)


def test_an_engine_tells_up_to_where_its_log_goes() -> None:
    last = [engine_field("small", told)["last_event"] for told in (stats(swap(1), swap(2))["small"], stats()["small"])]
    assert last == [1002.0, None]


async def test_a_key_has_so_many_streams_and_no_more() -> None:
    feed = Feed(Workers())
    readers = [feed.open(EVERYTHING, "a") for _ in range(MOST_OF_KEY)]
    with pytest.raises(Overloaded, match="8 streams of events of this API key are open"):
        feed.open(EVERYTHING, "a")
    other = feed.open(EVERYTHING, "b")
    for reader in (*readers, other):
        feed.leave(reader)
    assert feed.readers == 0


async def test_batches_are_told_to_their_owner_when_they_change() -> None:
    jobs: dict[str, list[dict[str, Any]]] = {"a": [{"id": "batch_1", "status": "validating"}], "b": []}

    async def newest(owner: str) -> list[dict[str, Any]]:
        return jobs[owner]

    feed = Feed(Workers(), newest, look_s=0.001)
    own, other = feed.open(EVERYTHING, "a"), feed.open(EVERYTHING, "b")
    while ("batch", "validating") not in await kinds(own):
        pass
    jobs["a"] = [{"id": "batch_1", "status": "in_progress"}]
    assert await kinds(own) == [("batch", "in_progress")]
    assert all(kind != "batch" for kind, _ in await kinds(other))
    feed.leave(own)
    feed.leave(other)


async def test_batches_that_cannot_be_told_end_nothing() -> None:
    asked = 0

    async def newest(owner: str) -> list[dict[str, Any]]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("the storage is away")
        return [{"id": "batch_1", "status": "completed"}]

    feed = Feed(Workers(), newest, look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    while ("batch", "completed") not in await kinds(reader):
        pass
    feed.leave(reader)


async def test_what_is_told_of_batches_is_bounded() -> None:
    reader = Reader(EVERYTHING, "a")
    for number in range(100):
        reader.see_jobs({"id": f"batch_{each}", "status": "validating"} for each in range(number, number + 20))
    assert len(reader._last) == 20


# Over HTTP


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.05))
    yield service
    await service.stop()


@asynccontextmanager
async def watching(service: Service, more: bytes = b"") -> AsyncIterator[Wire]:
    async with served(service) as server, server.wire() as wire:
        head = f"GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n".encode()
        await wire.send(head + more + b"\r\n")
        yield wire


async def test_the_stream_begins_with_its_place_and_how_the_engines_are(service: Service) -> None:
    async with watching(service) as wire:
        head = await wire.until(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        assert b"cache-control: no-cache" in head
        assert b"retry: 1000" in await wire.until(b"\n\n")
        hello = await wire.until(b"\n\n")
        assert hello.startswith(b"id: ")
        assert b"event: hello\n" in hello
        assert b'"tiers":{"' in await wire.until(b"event: engine\ndata: ") + await wire.until(b"\n\n")
        assert b": keep-alive\n\n" in await wire.until(b": keep-alive\n\n")


async def test_a_swap_is_on_the_stream_with_an_id_to_go_on_from(service: Service) -> None:
    async with watching(service) as wire:
        await wire.until(b"event: engine\n")
        async with service.http as http:
            body = {"model": "sql", "messages": [{"role": "user", "content": "hi"}]}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        told = await wire.until(b"event: swap\ndata: ") + await wire.until(b"\n\n")
        assert b"\nid: " in told
        assert b'"image":"sql"' in told


async def test_the_stream_ends_when_its_key_is_revoked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.http.events.CHECK_S", 0.02)
    monkeypatch.setattr("orchestrator.keys.FRESH_S", 0.0)
    async with watching(service) as wire:
        await wire.until(b"event: engine\n")
        [key] = await service.keys.list()
        await service.keys.revoke(key.id)
        assert b"was revoked" in await wire.until(b"event: end\ndata: ") + await wire.until(b"\n\n")


async def test_it_is_silent_no_longer_than_it_may_though_its_key_is_looked_at_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waits = [0.0], []
    monkeypatch.setattr("orchestrator.http.events.time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))

    async def take(self: Reader, within: float) -> list[FeedEvent]:
        waits.append(within)
        clock[0] += within
        return []

    monkeypatch.setattr(Reader, "take", take)
    events = Events(Feed(Workers()), service.keys, 60.0)
    frames = events._frames(Reader(EVERYTHING, "a"), service.key)
    assert b"event: hello\n" in await anext(frames)
    assert [await anext(frames), clock[0]] == [b": keep-alive\n\n", 15.0]
    assert [await anext(frames), clock[0]] == [b": keep-alive\n\n", 30.0]
    assert waits == [10.0, 5.0] * 2
    await frames.aclose()


async def test_it_takes_no_place_from_requests(service: Service) -> None:
    keeper = Doorkeeper(Door(room=1, wait_s=60.0))
    async with served(service, keeper=keeper) as server, server.wire() as wire:
        await wire.send(f"GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n\r\n".encode())
        await wire.until(b"event: engine\n")
        assert keeper.door.inside.total == 0


async def test_who_leaves_before_the_first_event_holds_no_place(service: Service) -> None:
    feed = Feed(Workers())
    headers = [(b"authorization", f"Bearer {service.key}".encode())]
    scope = {"type": "http", "headers": headers, "state": {"caller": await service.keys.verify(service.key)}}
    response = await Events(feed, service.keys, 1.0).stream(Request(scope))
    assert feed.readers == 1

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise OSError("the connection is gone")

    await response(scope, receive, send)
    assert feed.readers == 0


async def test_it_takes_a_key(service: Service) -> None:
    response = await service.http.get("/v1/events", headers={"authorization": ""})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")


async def test_a_closed_feed_ends_its_streams_and_those_that_come(service: Service) -> None:
    feed = Feed(Workers(), look_s=0.001)
    reader = feed.open(EVERYTHING, "a")
    feed.close("the service stops")
    late = feed.open(EVERYTHING, "a")
    assert reader.ended == late.ended == "the service stops"
    feed.leave(reader)
    feed.leave(late)
