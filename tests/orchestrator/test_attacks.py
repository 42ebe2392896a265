"""Each guard as an attacker would try it: raw bytes over real sockets against the server that `coe serve` runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from orchestrator.http.guards import Bounds
from orchestrator.store import Store
from tests.orchestrator.parts import SQL, Service
from tests.orchestrator.served import Served, served, sized

GET = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
CHAT = json.dumps({"model": SQL, "messages": [{"role": "user", "content": "one two"}]}).encode()


@pytest_asyncio.fixture
async def target(store: Store) -> AsyncIterator[Served]:
    async with served(await Service.start(store)) as it:
        yield it


async def test_a_good_request_is_answered_and_so_is_the_next_on_its_connection(target: Served) -> None:
    async with target.wire() as wire:
        for _ in range(3):
            await wire.send(target.head + sized(CHAT))
            answer = await wire.answer()
            assert (answer.status, answer.headers.get("connection")) == (200, None)
            assert b"sql heard: one two" in answer.body


# The head


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (GET + b"a: b\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
        (GET + b"a: b\r\n" * 5000 + b"\r\n", 431, "headers_too_large"),
        (GET + b"a: " + b"b" * 33_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (GET + b"a" * 33_000 + b": b\r\n\r\n", 431, "headers_too_large"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "path_too_long"),
        (b"GET /health/live?" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "path_too_long"),
        (b"TRACE /health/live HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method_not_allowed"),
        (b"PROPFIND /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method_not_allowed"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", 404, "not_found"),
        (b"GET /%00%0d%0a HTTP/1.1\r\nhost: x\r\n\r\n", 404, "not_found"),
    ],
)
async def test_a_head_out_of_bounds(target: Served, data: bytes, status: int, code: str) -> None:
    answer = await target.ask(data)
    assert (answer.status, answer.code) == (status, code)
    assert await target.lives()


async def test_a_head_without_an_end_is_cut_off_while_it_comes(target: Served) -> None:
    async with target.wire() as wire:

        async def flood() -> None:
            await wire.send(GET + b"a: ")
            while True:
                await wire.send(b"b" * 10_000)
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        assert (await wire.answer()).code == "headers_too_large"
        await wire.ended()
        flooding.cancel()
    assert await target.lives()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, as a browser begins it
        b"\x00" * 100,
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"BOGUS / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na\x00b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: [\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a/b?c\r\n\r\n",
    ],
)
async def test_what_is_no_http(target: Served, data: bytes) -> None:
    async with target.wire() as wire:
        await wire.send(data)
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "malformed_request")
        assert answer.headers["connection"] == "close"
        assert await wire.ended() == b""


# Where a request ends: two servers that read it differently let one client speak in another's name


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5\r\ncontent-length: 5\r\n",
        b"content-length: 5, 5\r\n",
        b"content-length: +5\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x5\r\n",
        b"content-length: 5 5\r\n",
        b"content-length:\r\n",
        b"content-length: 99999999999999999999999\r\n",
        b"content-length : 5\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding\r\n : chunked\r\n",
        b"transfer-encoding:\x0bchunked\r\n",
        b"x: y\r\n transfer-encoding: chunked\r\n",
    ],
)
async def test_a_request_whose_end_is_in_doubt_is_refused_and_what_follows_is_not_read(
    target: Served, headers: bytes
) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    async with target.wire() as wire:
        await wire.send(target.head + headers + b"\r\n0\r\n\r\n" + smuggled)
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "malformed_request")
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"2\r{}\r\n0\r\n\r\n",
    ],
)
async def test_broken_chunks(target: Served, body: bytes) -> None:
    async with target.wire() as wire:
        await wire.send(target.head + b"transfer-encoding: chunked\r\n\r\n" + body)
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "malformed_request")
        assert await wire.ended() == b""
    assert await target.lives()


async def test_line_feeds_alone_do_not_end_a_head(target: Served) -> None:
    async with target.wire() as wire:
        await wire.send(GET.replace(b"\r\n", b"\n") + b"\n" + GET + b"\r\n")
        assert (await wire.answer()).code == "malformed_request"
        assert await wire.ended() == b""


async def test_a_trailer_is_not_taken_for_a_header(target: Served) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(CHAT), CHAT)
    answer = await target.ask(head + chunks + f"authorization: Bearer {target.service.key}\r\n\r\n".encode())
    assert (answer.status, answer.code) == (401, "missing_api_key")


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
async def test_who_offers_another_protocol_is_answered_in_this_one(target: Served, offer: bytes) -> None:
    async with target.wire() as wire:
        upgrade = b"connection: upgrade\r\nupgrade: %s\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" % offer
        await wire.send(GET + upgrade + b"\r\n")
        assert (await wire.answer()).status == 200
        chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(CHAT)
        for parts in ([sized(CHAT)], [sized(CHAT)[:40], sized(CHAT)[40:]], [chunks, CHAT + b"\r\n", b"0\r\n\r\n"]):
            await wire.send(target.head + upgrade)
            for part in parts:
                await wire.send(part)
                await asyncio.sleep(0.01)
            assert b"sql heard: one two" in (await wire.answer()).body


# Many at once


@pytest.mark.parametrize("stream", [True, False])
async def test_who_speaks_http_1_0_gets_no_chunks(target: Served, stream: bool) -> None:
    chat = {"model": SQL, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    async with target.wire() as wire:
        await wire.send(target.head.replace(b"HTTP/1.1", b"HTTP/1.0") + sized(json.dumps(chat).encode()))
        head, _, body = (await wire.ended()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    if stream:
        assert body.startswith(b"data: {")
        assert body.endswith(b"}\n\ndata: [DONE]\n\n")
    else:
        assert json.loads(body)["choices"][0]["message"]["content"] == f"{SQL} heard: hello"


async def test_pipelined_requests_are_answered_in_order(target: Served) -> None:
    async with target.wire() as wire:
        await wire.send(GET + b"\r\n" + GET.replace(b"live", b"nope") + b"\r\n" + GET + b"\r\n")
        assert [(await wire.answer()).status for _ in range(3)] == [200, 404, 200]


async def test_a_flood_of_pipelined_requests_is_cut_off(target: Served) -> None:
    async with target.wire() as wire:
        await wire.send((GET + b"\r\n") * 5000)
        answers = (await wire.ended()).count(b"HTTP/1.1 200")
        assert answers <= 2 * Bounds().pipelined
    assert await target.lives()


async def test_garbage_behind_a_request_does_not_break_into_its_answer(target: Served) -> None:
    target.service.engine.token_delay = 0.02
    async with target.wire() as wire:
        await wire.send(target.head + sized(CHAT) + b"\x00garbage\r\n\r\n")
        answer = await wire.answer()
        assert answer.status == 200
        assert json.loads(answer.body)["object"] == "chat.completion"
        assert await wire.ended() == b""


async def test_connections_are_bounded_and_the_probe_is_answered_all_the_same(store: Store) -> None:
    few = Bounds(connections=5, spare=64)
    async with served(await Service.start(store, bounds=few), few) as target:
        idle = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(5)]
        while len(target.server.server_state.connections) < 5:
            await asyncio.sleep(0.005)
        answer = await target.ask(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (answer.status, answer.code) == (429, "too_many_connections")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        assert await target.lives()
        idle += [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(few.spare + 20)]
        async with target.wire() as wire:
            await wire.send(GET + b"\r\n")
            assert await wire.ended() == b""
        assert len(target.server.server_state.connections) <= 5 + few.spare
        for _, writer in idle:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        while target.server.server_state.connections:
            await asyncio.sleep(0.005)
        assert (await target.ask(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")).code == "missing_api_key"


async def test_a_body_that_is_late_is_of_no_harm_to_the_next_request(target: Served) -> None:
    async with target.wire() as wire:
        await wire.send(b"POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        assert (await wire.answer()).status == 404
        await wire.send(b"0123456789" + GET + b"\r\n")
        assert (await wire.answer()).status == 200


# Bodies


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (b"content-type: application/x-www-form-urlencoded\r\n", "application/json"),
        (b"content-type: text/plain\r\n", "application/json"),
        (b"content-type: multipart/form-data; boundary=x\r\n", "application/json"),
        (b"content-type: application/json; charset=utf-16\r\n", "utf-16"),
        (b"content-type: application/json\r\ncontent-type: text/plain\r\n", "more than one"),
        (b"content-encoding: gzip\r\n", "gzip"),
        (b"content-encoding: br\r\n", "br"),
    ],
)
async def test_bodies_that_are_not_read(target: Served, headers: bytes, told: str) -> None:
    answer = await target.ask(target.head + headers + sized(CHAT))
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert told in json.loads(answer.body)["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [b"", b"content-type: application/json\r\n", b'content-type: Application/JSON; charset="UTF-8"\r\n',
     b"content-type: application/vnd.api+json\r\n", b"content-encoding: identity\r\n"],
)  # fmt: skip
async def test_bodies_that_are_read(target: Served, headers: bytes) -> None:
    assert (await target.ask(target.head + headers + sized(CHAT))).status == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 19_000, "invalid_json"),
        (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, "invalid_json"),
        (b'{"model": "sql", "messages": [' + b"0," * 9_000 + b"0]}", "invalid_value"),
        (b'"' + b'\\"' * 9_000, "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b"\xff\xfe{}", "invalid_json"),
        (b"", "invalid_json"),
        (b" " * 30_000, "request_too_large"),
    ],
)
async def test_bodies_that_are_traps(target: Served, body: bytes, code: str) -> None:
    answer = await target.ask(target.head + sized(body))
    assert answer.code == code
    assert answer.status < 500
    assert await target.lives()


# Keys, and what an error tells


@pytest.mark.parametrize(
    "value", [b"Bearer", b"Bearer ", b"Basic eDp5", b"Bearer x", b"Bearer " + b"\xff" * 50, b"Bearer " + b"a" * 20_000]
)
async def test_wrong_keys(target: Served, value: bytes) -> None:
    answer = await target.ask(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: " + value + b"\r\n\r\n")
    assert (answer.status, answer.headers["content-type"]) == (401, "application/json")
    assert answer.code in ("missing_api_key", "invalid_api_key")


async def test_no_answer_names_the_server_and_every_answer_is_for_its_caller_alone(target: Served) -> None:
    for data in (
        GET + b"\r\n",
        b"GET /nope HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x00\x00\r\n\r\n",
        target.head + sized(CHAT),
    ):
        answer = await target.ask(data)
        assert "server" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_caller_cannot_choose_the_request_id_or_split_an_answer(target: Served) -> None:
    answer = await target.ask(GET.replace(b"live", b"live%0d%0ax-evil:%201") + b"x-request-id: mine\r\n\r\n")
    assert "x-evil" not in answer.headers
    assert answer.headers["x-request-id"].startswith("req-")
    assert answer.headers["x-request-id"] != "mine"


async def test_many_good_clients_at_once_are_no_attack(target: Served) -> None:
    answers = await asyncio.gather(*(target.ask(target.head + sized(CHAT)) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 8
