"""GET /v1/events: the feed as a stream over HTTP, which lives as long as its key and takes no place from requests."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.types import Message

from orchestrator.feed import MOST_OF_KEY, Feed, FeedEvent, Reader
from orchestrator.http.door import Door
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.events import Events
from orchestrator.store import Store
from tests.orchestrator.feed_parts import EVERYTHING, Workers
from tests.orchestrator.parts import LIMITS, Service
from tests.orchestrator.served import Wire, served


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.05))
    yield service
    await service.stop()


@asynccontextmanager
async def watching(service: Service, keeper: Doorkeeper | None = None) -> AsyncIterator[Wire]:
    async with served(service, keeper=keeper) as server, server.wire() as wire:
        await wire.send(f"GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n\r\n".encode())
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
    async with watching(service, keeper) as wire:
        await wire.until(b"event: engine\n")
        assert keeper.door.inside.total == 0


async def test_who_leaves_before_the_first_event_holds_no_place(service: Service) -> None:
    feed = Feed(Workers())
    headers = [(b"authorization", f"Bearer {service.key}".encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "headers": headers,
        "state": {"caller": await service.keys.verify(service.key)},
    }
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


async def test_who_asks_for_the_headers_alone_takes_no_place(service: Service) -> None:
    for _ in range(MOST_OF_KEY + 1):
        response = await service.http.head("/v1/events")
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    async with watching(service) as wire:
        assert b" 200 " in await wire.until(b"\r\n")
    assert (await service.http.head("/v1/events", headers={"authorization": ""})).status_code == 401
