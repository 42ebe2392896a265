"""What the ledger can tell apart: a server that goes wrong in every way, and the real clients before it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import openai
import pytest

from benchmarks.faults import load
from benchmarks.faults.ledger import Asked, Heard, Row, Tally, answer_of, judge, judge_lines
from coe_client import AsyncCoe

PROMPT = "q1 some words"
ANSWER = answer_of("chat", PROMPT)
ALL_UP, ALL_DOWN = (lambda began, ended: False), (lambda began, ended: True)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ENGINE_DIED = {"message": "it went down", "type": "server_error", "param": None, "code": "engine_died"}


def event(told: object) -> bytes:
    data = b"data: " + (told if isinstance(told, bytes) else json.dumps(told).encode()) + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunk(text: str, reason: str | None = None, model: str = "chat") -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return event(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    )


def whole(text: str, reason: str = "stop", model: str = "chat") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return answer(
        200, {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    )


def answer(status: int, told: object) -> bytes:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


DONE, LAST = event(b"[DONE]"), b"0\r\n\r\n"
STREAMED = chunk("chat heard:"), chunk(" q1 some words"), chunk("", "stop"), DONE
Client = Callable[[str], Awaitable[Row]]


@contextlib.asynccontextmanager
async def server(says: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """Whatever is asked, it says that, and closes the connection, or says nothing more."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(says)
        if hangs:
            await gone.wait()
        writer.close()

    own = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{own.sockets[0].getsockname()[1]}"
    finally:
        gone.set()
        own.close()


async def row(
    url: str, way: str = "openai stream", was_down: Callable[[float, float], bool] = ALL_UP, within_s: float = 5
) -> Row:
    asked = Asked(way, "chat", PROMPT, time.monotonic())
    async with (
        openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="x",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        ) as client,
        AsyncCoe(url, "x", max_retries=0) as coe,
    ):
        ways: dict[str, load.Ask] = {
            "openai stream": partial(load.openai_stream, client),
            "openai": partial(load.openai_whole, client),
            "sdk stream": partial(load.sdk_stream, coe),
            "sdk": partial(load.sdk_whole, coe),
        }
        heard = await load.listened(ways[way]("chat", PROMPT), within_s)
    return judge(asked, heard, was_down)


async def test_a_whole_answer_is_right() -> None:
    async with server(HEAD + b"".join(STREAMED) + LAST) as url:
        assert [(await row(url, way)).end for way in ("openai stream", "sdk stream")] == ["right", "right"]
    async with server(whole(ANSWER)) as url:
        assert [(await row(url, way)).end for way in ("openai", "sdk")] == ["right", "right"]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((*STREAMED[:2], LAST), id="ends in good order, without a finish_reason"),
        pytest.param((*STREAMED[:2], DONE, LAST), id="says that it is done, without a finish_reason"),
        pytest.param((STREAMED[0], *STREAMED[2:], LAST), id="lacks a piece, and is called complete"),
        pytest.param((*STREAMED[:2], chunk("", "length"), DONE, LAST), id="is called cut"),
        pytest.param(STREAMED[:1], id="breaks off"),
        pytest.param(
            (STREAMED[0], event({"error": {"message": "?", "code": "strange"}}), DONE, LAST), id="strange error"
        ),
        pytest.param((LAST,), id="is empty"),
    ],
)
@pytest.mark.parametrize("way", ["openai stream", "sdk stream"])
async def test_a_stream_without_its_end_is_a_silent_loss(way: str, pieces: tuple[bytes, ...]) -> None:
    async with server(HEAD + b"".join(pieces)) as url:
        assert (await row(url, way)).end == "silent"


@pytest.mark.parametrize("way", ["openai", "sdk"])
@pytest.mark.parametrize(
    "says", [whole(ANSWER[:-3]), whole(""), answer(200, b"<html>"), answer(502, b"<html>"), b""], ids=str
)
async def test_a_cut_answer_an_unreadable_one_and_none_are_silent_losses(way: str, says: bytes) -> None:
    async with server(says) as url:
        assert (await row(url, way)).end == "silent"


@pytest.mark.parametrize("way", ["openai stream", "openai", "sdk stream", "sdk"])
async def test_a_hang_is_a_silent_loss(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "GRACE_S", 0.2)
    async with server(b"" if way in ("openai", "sdk") else HEAD + STREAMED[0], hangs=True) as url:
        found = await row(url, way, within_s=0.1)
    assert (found.end, found.why) == ("silent", "nothing came by the deadline")


@pytest.mark.parametrize("way", ["openai stream", "sdk stream"])
async def test_the_text_of_another_is_wrong_even_if_an_error_follows(way: str) -> None:
    other = answer_of("code", PROMPT)
    failed = event({"error": ENGINE_DIED})
    for pieces in (chunk(other) + chunk("", "stop"), chunk(other[:9]) + failed, chunk("chat heard: q2") + failed):
        async with server(HEAD + pieces + DONE + LAST) as url:
            assert (await row(url, way)).end == "wrong"


@pytest.mark.parametrize("way", ["openai", "sdk"])
async def test_the_name_of_another_is_wrong(way: str) -> None:
    async with server(whole(ANSWER, model="code")) as url:
        assert (await row(url, way)).end == "wrong"


def test_who_the_router_chose_is_right_if_the_answer_says_who_it_was() -> None:
    def end(text: str, model: str | None) -> str:
        return judge(Asked("openai", None, PROMPT, 0), Heard(text, 1, "stop", model), ALL_UP).end

    assert end(answer_of("code", PROMPT), "code") == "right"
    assert [end(answer_of("code", PROMPT), model) for model in ("chat", None)] == ["wrong", "wrong"]


@pytest.mark.parametrize("way", ["openai stream", "sdk stream"])
async def test_an_error_of_the_table_is_one_in_the_stream_and_as_a_status(way: str) -> None:
    said = {"error": ENGINE_DIED}
    for says in (HEAD + STREAMED[0] + event(said) + DONE + LAST, answer(503, said)):
        async with server(says) as url:
            found = await row(url, way)
        assert (found.end, found.why) == ("error", "engine_died")


@pytest.mark.parametrize("way", ["openai stream", "openai", "sdk stream", "sdk"])
async def test_a_broken_connection_is_explained_by_a_gateway_that_was_killed_and_by_nothing_else(way: str) -> None:
    async with server(HEAD + STREAMED[0] if "stream" in way else b"") as url:
        assert (await row(url, way, ALL_DOWN)).end == "error"
        assert (await row(url, way, ALL_UP)).end == "silent"


LINES = [("a", "chat", "one"), ("b", "code", "two"), ("c", "chat", "three")]


def line(own: str, text: str) -> str:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"custom_id": own, "response": {"body": {"choices": [choice]}}, "error": None}) + "\n"


def failed(own: str) -> str:
    return json.dumps({"custom_id": own, "response": None, "error": {"code": "batch_expired"}}) + "\n"


def test_each_line_of_a_batch_is_to_be_once_in_one_of_its_files() -> None:
    a, b, c = (line(own, answer_of(expert, prompt)) for own, expert, prompt in LINES)
    found = judge_lines(LINES, a + b, failed("c"))
    assert (found.answered, found.errors, found.lost, found.doubled, found.wrong) == (
        2,
        {"batch_expired": 1},
        [],
        [],
        [],
    )
    assert judge_lines(LINES, a + b, "").lost == ["c"]
    assert judge_lines(LINES, a + b + c + b, "").doubled == ["b"]
    assert judge_lines(LINES, a + b + c, failed("a")).doubled == ["a"]
    assert judge_lines(LINES, a + line("b", answer_of("chat", "two")) + c, "").wrong == ["b"]
    assert judge_lines(LINES, a + b + c[: len(c)] + line("d", "chat heard: four"), "").wrong == ["d"]


def test_a_tally_counts_ends_and_knows_when_the_trouble_was_over() -> None:
    def ended(end: str, at: float, why: str = "") -> Row:
        return Row(Asked("openai", "chat", "", at - 1), Heard("", at), end, why)  # type: ignore[arg-type]

    tally = Tally.of([ended("right", 9), ended("error", 5, "engine_died"), ended("silent", 6), ended("wrong", 4)])
    assert (tally.right, tally.errors, tally.silent, tally.wrong) == (1, 1, 1, 1)
    assert (tally.codes, tally.last_trouble) == ({"engine_died": 1}, 6)
    assert Tally.of([ended("right", 9)]).last_trouble is None
