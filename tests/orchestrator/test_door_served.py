"""The door over real sockets: what is turned away, how, and what is not."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from orchestrator.http.door import Door, key_of
from orchestrator.http.doorkeeper import Doorkeeper, raw_answer
from orchestrator.http.guards import SAFE, Bounds
from orchestrator.store import Store
from tests.orchestrator.parts import SQL, Service
from tests.orchestrator.served import Answer, Served, served, sized

CHAT = json.dumps({"model": SQL, "messages": [{"role": "user", "content": "one two"}]}).encode()
ROOM = 4


@dataclass
class Guarded:
    target: Served
    keeper: Doorkeeper

    @property
    def door(self) -> Door:
        return self.keeper.door

    @property
    def chat(self) -> bytes:
        return self.target.head + sized(CHAT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """The key of the service has all the room."""
        tickets = [self.door.enter(key_of(f"Bearer {self.target.service.key}".encode())) for _ in range(ROOM)]
        yield
        for ticket in tickets:
            self.door.leave(ticket)


@asynccontextmanager
async def guarded(store: Store, bounds: Bounds | None = None, room: int = ROOM) -> AsyncIterator[Guarded]:
    service = await Service.start(store, bounds=bounds or Bounds(), concurrent=room)
    keeper = Doorkeeper(Door(room, 1.0), service.metrics)
    async with served(service, bounds or Bounds(), keeper=keeper) as target:
        yield Guarded(target, keeper)


@pytest_asyncio.fixture
async def site(store: Store) -> AsyncIterator[Guarded]:
    async with guarded(store) as it:
        yield it


def told(answer: Answer) -> tuple[int, str, str, str, str | None]:
    headers = answer.headers
    return answer.status, answer.code, headers["retry-after"], headers["x-should-retry"], headers.get("connection")


REFUSED = (429, "overloaded", "1", "true", None)


async def test_who_is_turned_away_has_a_whole_answer_and_the_connection_stays(site: Guarded) -> None:
    async with site.target.wire() as wire:
        with site.full():
            for _ in range(3):
                await wire.send(site.chat)
                answer = await wire.answer()
                assert told(answer) == REFUSED
                assert SAFE.items() <= answer.headers.items()
                assert json.loads(answer.body)["error"]["type"] == "rate_limit_error"
        assert site.target.service.engine.started == 0
        for _ in range(2):
            await wire.send(site.chat)
            assert b"sql heard: one two" in (await wire.answer()).body
    assert site.door.refused == 3


async def test_the_answer_is_made_before_it_is_needed(site: Guarded) -> None:
    with site.full():
        async with site.target.wire() as wire:
            await wire.send(site.chat)
            answer = await wire.answer()
    assert site.keeper.answer.endswith(b"\r\n\r\n" + answer.body)
    assert raw_answer(site.keeper.refusal(), closing=False).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")


async def test_a_body_that_comes_after_its_head_is_thrown_away(site: Guarded) -> None:
    async with site.target.wire() as wire:
        with site.full():
            for cuts in ((-len(CHAT),), (-len(CHAT), -10), (-1,)):
                parts = [site.chat[a:b] for a, b in zip((None, *cuts), (*cuts, None), strict=True)]
                await wire.send(parts[0])
                assert told(await wire.answer()) == REFUSED
                for part in parts[1:-1]:
                    await wire.send(part)
                    await asyncio.sleep(0.01)
                await wire.send(parts[-1] + site.chat)  # and right behind it the next one
                assert told(await wire.answer()) == REFUSED
        await wire.send(site.chat)
        assert (await wire.answer()).status == 200


async def test_what_cannot_be_told_from_its_bytes_is_refused_behind_the_parser(site: Guarded) -> None:
    chunked = site.target.head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
    with site.full():
        for data in (chunked, site.target.head + b"origin: https://a.example\r\n" + sized(CHAT)):
            async with site.target.wire() as wire:
                for _ in range(2):
                    await wire.send(data)
                    assert told(await wire.answer()) == REFUSED
        async with site.target.wire() as wire:  # a head in two parts
            await wire.send(site.chat[:20])
            await asyncio.sleep(0.01)
            await wire.send(site.chat[20:])
            assert told(await wire.answer()) == REFUSED
        async with site.target.wire() as wire:
            await wire.send(site.chat * 3)
            assert [told(await wire.answer()) for _ in range(3)] == [REFUSED] * 3
    assert site.door.refused == 2 * 2 + 1 + 3
    assert site.target.service.engine.started == 0


async def test_who_does_not_read_is_not_answered_on_and_on(site: Guarded) -> None:
    async with site.target.wire() as wire:
        with site.full():
            await wire.send(site.chat)
            assert "x-request-id" not in (await wire.answer()).headers
            [connection] = site.target.server.server_state.connections
            connection.pause_writing()
            await wire.send(site.chat)
            while site.door.refused < 2:
                await asyncio.sleep(0.005)
            connection.resume_writing()
            answer = await wire.answer()  # it has come by way of the app, which waits for the client
            assert told(answer) == REFUSED
            assert "x-request-id" in answer.headers


async def test_behind_a_request_that_is_under_way_the_answers_keep_their_order(site: Guarded) -> None:
    engine = site.target.service.engine
    await engine.sleep()
    async with site.target.wire() as wire:
        await wire.send(site.chat)
        await engine.reaches(running=1)
        with site.full():
            await wire.send(site.chat)
            await asyncio.sleep(0.01)
            await engine.wake()
            assert (await wire.answer()).status == 200
            assert told(await wire.answer()) == REFUSED


async def test_requests_themselves_fill_the_room(site: Guarded) -> None:
    engine = site.target.service.engine
    await engine.sleep()
    asking = [asyncio.create_task(site.target.ask(site.chat)) for _ in range(ROOM)]
    await engine.reaches(running=ROOM)
    assert told(await site.target.ask(site.chat)) == REFUSED
    await engine.wake()
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * ROOM
    assert site.door.inside.total == 0
    assert (await site.target.ask(site.chat)).status == 200


async def test_one_after_the_other_never_meets_a_door_that_its_last_request_holds(store: Store) -> None:
    body = {"model": SQL, "messages": [{"role": "user", "content": "one"}], "stream": True}
    async with guarded(store, room=1) as site, site.target.wire() as wire:
        for _ in range(20):
            await wire.send(site.chat)
            assert (await wire.answer()).status == 200
            await wire.send(site.target.head + sized(json.dumps(body).encode()))
            assert (await wire.until(b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert site.door.refused == 0


async def test_a_client_that_leaves_makes_room(site: Guarded) -> None:
    engine = site.target.service.engine
    await engine.sleep()
    async with site.target.wire() as wire:
        await wire.send(site.chat)
        await engine.reaches(running=1)
        assert site.door.inside.total == 1
    await engine.reaches(running=0)
    while site.door.inside.total:
        await asyncio.sleep(0.005)
    await engine.wake()


async def test_another_key_gets_in_while_one_floods(site: Guarded) -> None:
    key, _ = await site.target.service.keys.create("other")
    other = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + key.encode() + b"\r\n"
    with site.full():
        flood = [asyncio.create_task(site.target.ask(site.chat)) for _ in range(20)]
        for _ in range(3):
            assert (await site.target.ask(other + sized(CHAT))).status == 200
        assert {told(answer) for answer in await asyncio.gather(*flood)} == {REFUSED}


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/health/ready", 200), ("/metrics", 200), ("/admin/v1/keys", 403)]
)
async def test_what_is_never_turned_away(site: Guarded, path: str, status: int) -> None:
    with site.full():
        key = site.target.service.key
        data = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode()
        assert (await site.target.ask(data)).status == status


async def test_lists_are_read_while_there_is_no_room_for_work(site: Guarded) -> None:
    with site.full():
        data = site.target.head.replace(b"POST /v1/chat/completions", b"GET /v1/models")
        assert (await site.target.ask(data + b"\r\n")).status == 200


async def test_refusals_are_counted_by_cause_and_logged_together(
    site: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    keeping = asyncio.create_task(site.keeper.keep())
    with site.full():
        for _ in range(5):
            await site.target.ask(site.chat)
        registry = site.target.service.metrics.registry
        while registry.get_sample_value("coe_refusals_total", {"reason": "door"}) != 5:
            await asyncio.sleep(0.01)
    keeping.cancel()
    lines = [line for line in capsys.readouterr().out.splitlines() if "turned away at the door" in line]
    assert len(lines) == 1
    assert site.target.service.key not in lines[0]


async def test_every_connection_over_the_bound_has_an_answer(store: Store) -> None:
    few = Bounds(connections=3, spare=200)
    async with guarded(store, few) as site:
        idle = [await asyncio.open_connection("127.0.0.1", site.target.port) for _ in range(3)]
        while len(site.target.server.server_state.connections) < 3:
            await asyncio.sleep(0.005)
        answers = await asyncio.gather(*(site.target.ask(site.chat) for _ in range(100)))
        assert {(answer.status, answer.code) for answer in answers} == {(429, "too_many_connections")}
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert await site.target.lives()
        for _, writer in idle:
            writer.close()
        while site.target.server.server_state.connections:
            await asyncio.sleep(0.005)
        assert (await site.target.ask(site.chat)).status == 200
        refused = site.target.service.metrics.registry.get_sample_value("coe_refusals_total", {"reason": "connections"})
        assert refused == 100
