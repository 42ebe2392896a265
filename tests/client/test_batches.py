"""Files and batches by the client, against the mock: what is sent, tried again, waited for, and comes back."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from coe_client import (
    Answer,
    AsyncCoe,
    BadRequest,
    Batch,
    BatchFailed,
    Coe,
    ConfigError,
    ConnectionFailed,
    InvalidAnswer,
    NotFound,
    TimedOut,
    Unavailable,
)
from coe_client.testing import MockService, Request, answered
from tests.client.virtual import Clock


def echo(request: Request) -> Any:
    asked = request.json
    said = asked["messages"][-1]["content"] if "messages" in asked else str(asked.get("prompt", asked.get("input")))
    return answered(request, f"heard {said}")


@pytest.fixture
def service() -> MockService:
    return MockService(echo)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def methods(service: MockService) -> list[str]:
    """What was asked, without what is particular to one run."""
    return [f"{own.method} {own.path}" for own in service.requests]


def uploaded(service: MockService) -> list[dict[str, Any]]:
    """The lines of the only file."""
    [(_, content)] = service.batches._files.values()
    return [json.loads(line) for line in content.splitlines()]


# Files


def test_a_file_is_uploaded_from_bytes_from_a_path_and_from_requests(service: MockService, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    with service.client() as coe:
        for source in (path, str(path)):
            assert (coe.files.upload(source).filename, coe.files.upload(source).bytes) == ("in.jsonl", 9)
        made = coe.files.upload(b"\x00\r\n--x\n\xff", name="b.jsonl")
        assert (made.filename, coe.files.content(made)) == ("b.jsonl", b"\x00\r\n--x\n\xff")
        lines = coe.files.content(coe.files.upload(str(n) for n in range(3))).splitlines()
        assert [json.loads(line)["custom_id"] for line in lines] == ["0", "1", "2"]
        coe.files.download(made, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\x00\r\n--x\n\xff"
    assert sorted(own.name for own in tmp_path.iterdir()) == ["in.jsonl", "out"]


def test_files_are_listed_looked_at_and_deleted(service: MockService) -> None:
    with service.client() as coe:
        made = [coe.files.upload(b"x") for _ in range(3)]
        assert coe.files.list() == (made[2], made[1], made[0])
        assert coe.files.list(limit=1, after=made[2].id) == (made[1],)
        assert coe.files.list(purpose="batch_output") == ()
        assert coe.files.get(made[0].id) == made[0]
        assert coe.files.delete(made[0]).deleted
        with pytest.raises(NotFound, match="file_not_found"):
            coe.files.get(made[0])


@pytest.mark.parametrize("source", ["bytes", "path", "requests"])
def test_a_try_of_an_upload_sends_the_file_from_its_beginning(
    service: MockService, clock: Clock, tmp_path: Path, source: str
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * 200_000)
    given: Any = {"bytes": b"x" * 200_000, "path": path, "requests": ("y" * 1000 for _ in range(200))}[source]
    service.batch_error(503, "engine_starting")
    service.batch_error(500)
    with service.client(**clock.settings()) as coe:
        coe.files.upload(given)
    first, second, third = service.requests
    bodies = {
        own.content.replace(own.headers["content-type"].rpartition("=")[2].encode(), b"")
        for own in (first, second, third)
    }
    assert len(bodies) == 1
    assert len(first.content) > 200_000
    assert len(clock.slept) == 2


def test_an_upload_ends_when_its_time_is_over(service: MockService, clock: Clock) -> None:
    def ticking() -> float:
        clock.now += 0.5
        return clock.now

    settings = {**clock.settings(), "clock": ticking}
    with service.client(**settings) as coe, pytest.raises(TimedOut):
        coe.files.upload(b"x" * 10_000_000, timeout=20)
    assert service.requests == []


def test_a_path_that_is_not_there_is_told_before_anything_is_sent(service: MockService, tmp_path: Path) -> None:
    with service.client() as coe, pytest.raises(ConfigError, match=r"none\.jsonl: No such file or directory"):
        coe.files.upload(tmp_path / "none.jsonl")
    assert service.requests == []


def test_a_download_that_fails_leaves_the_old_file(service: MockService, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with service.client() as coe, pytest.raises(NotFound):
        coe.files.download("file-none", out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


# Requests as lines


def test_a_request_is_a_text_messages_fields_or_a_line(service: MockService) -> None:
    messages = [{"role": "user", "content": "b"}]
    line = {"custom_id": "own", "url": "/v1/chat/completions", "body": {"model": "sql", "messages": messages}}
    requests: list[Any] = ["a", messages, {"messages": "c", "custom_id": "x", "temperature": 1, "model": "sql"}, line]
    with service.client() as coe:
        coe.files.upload(requests, defaults={"temperature": 0, "seed": 3})
    lines = uploaded(service)
    assert [own["custom_id"] for own in lines] == ["0", "1", "x", "own"]
    assert {(own["method"], own["url"]) for own in lines} == {("POST", "/v1/chat/completions")}
    user = {"role": "user", "content": "a"}
    assert lines[0]["body"] == {"model": "auto", "messages": [user], "temperature": 0, "seed": 3}
    assert lines[2]["body"]["temperature"] == 1
    assert lines[3]["body"] == line["body"]


@pytest.mark.parametrize(
    ("endpoint", "first"),
    [("/v1/completions", "prompt"), ("/v1/responses", "input"), ("/v1/embeddings", "input")],
)
def test_other_endpoints_have_requests_of_their_own(service: MockService, endpoint: Any, first: str) -> None:
    with service.client() as coe:
        coe.files.upload(["a", {first: "b", "model": "m"}], endpoint=endpoint)
    assert [(own["url"], own["body"][first], own["body"]["model"]) for own in uploaded(service)] == [
        (endpoint, "a", "auto"),
        (endpoint, "b", "m"),
    ]


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        ([3], "request 0: 'messages' must be a string or a list; got 3"),
        (["a", {"prompt": "b"}], "request 1: 'messages' must be"),
        ([{"messages": "a", "custom_id": "1"}, "b"], "request 1: an earlier one has the custom_id '1' too"),
        ([{"messages": "a", "timeout": 3}], "timeout is not of one line"),
        ([{"messages": "a", "top_p": float("nan")}], "cannot be written as JSON"),
    ],
)
def test_what_is_no_request_is_told_and_nothing_sent(service: MockService, requests: Any, says: str) -> None:
    with service.client() as coe, pytest.raises(ConfigError, match=says):
        coe.batches.run(requests)
    assert service.requests == []


# Batches


def test_creating_has_one_idempotency_key_for_all_tries(service: MockService, clock: Clock) -> None:
    with service.client(**clock.settings()) as coe:
        file = coe.files.upload(["a"])
        service.batch_error(503)
        batch = coe.batches.create(file, metadata={"for": "me"}, dry_run=True)
    keys = [own.headers["idempotency-key"] for own in service.requests if own.path == "/v1/batches"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert service.requests[-1].json["coe"] == {"dry_run": True}
    assert (batch.metadata, batch.ended, batch.request_counts.total) == ({"for": "me"}, False, 1)


def test_waiting_looks_until_the_end_and_shows_each_look(service: MockService, clock: Clock) -> None:
    service.batches.looks = 3
    seen: list[Batch] = []
    with service.client(**clock.settings()) as coe:
        batch = coe.batches.create(coe.files.upload(["a", "b"]))
        done = coe.batches.wait(batch, poll=5, on_progress=seen.append)
    assert (done.status, done.request_counts.completed) == ("completed", 2)
    assert [own.status for own in seen] == ["in_progress"] * 3 + ["completed"]
    assert clock.slept == [5, 5, 5]


def test_a_service_that_is_away_is_waited_for_beyond_the_usual_tries(service: MockService, clock: Clock) -> None:
    with service.client(max_retries=0, **clock.settings()) as coe:
        batch = coe.batches.create(coe.files.upload(["a"]))
        for _ in range(20):
            service.batch_error(503)
        assert coe.batches.wait(batch).status == "completed"
        for _ in range(200):
            service.batch_error(503)
        with pytest.raises(Unavailable):
            coe.batches.wait(batch)  # 600 seconds are over


def test_waiting_has_a_limit_if_it_is_given_one(service: MockService, clock: Clock) -> None:
    service.batches.looks = 1000
    with service.client(**clock.settings()) as coe:
        batch = coe.batches.create(coe.files.upload(["a"]))
        with pytest.raises(TimedOut, match=f"the batch {batch.id} is in_progress after 10 s; it goes on"):
            coe.batches.wait(batch, poll=3, timeout=10)
    assert sum(clock.slept) <= 10


def test_results_come_in_the_order_of_the_input_answers_and_errors_mixed(service: MockService, clock: Clock) -> None:
    service.answer("first")
    service.error(400, "invalid_value", "no")
    service.answer("third", expert="sql")
    with service.client(**clock.settings()) as coe:
        batch = coe.batches.wait(coe.batches.create(coe.files.upload(["a", "b", "c"])))
        results = list(coe.batches.results(batch.id))
    assert [own.custom_id for own in results] == ["0", "1", "2"]
    assert [str(own) for own in results] == ["first", "400 invalid_value: no", "third"]
    assert results[0].answer.request_id == "req-mock"
    assert results[2].answer.route is not None
    assert isinstance(results[1].error, BadRequest)
    with pytest.raises(BadRequest):
        _ = results[1].answer
    assert (results[0].error, results[1].line) == (None, None)


@pytest.mark.parametrize(
    ("code", "status"),
    [("batch_cancelled", 409), ("batch_expired", 504), ("model_not_found", 404), ("invalid_json", 400)],
)
def test_a_line_that_was_not_run_has_an_error_with_a_class_and_a_number(
    service: MockService, code: str, status: int
) -> None:
    error = {"code": code, "message": "why", "type": "x", "param": None, "line": 7}
    row = {"id": "batch_req_0", "custom_id": None, "response": None, "error": error}
    with service.client() as coe:
        file = coe.files.upload(json.dumps(row).encode())
        batch = Batch(id="batch_x", status="completed", error_file_id=file.id)
        [result] = coe.batches.results(batch)
    assert (result.custom_id, result.line) == (None, 7)
    told: Any = result.error
    assert (told.status, told.code, told.message) == (status, code, f"{status} {code}: why")


@pytest.mark.parametrize(
    "content", [b"nonsense", b"[1]", b'{"id": "a"}', b'{"id": "a", "response": {"status_code": 200, "body": {}}}']
)
def test_what_is_no_result_is_told(service: MockService, content: bytes) -> None:
    with service.client() as coe:
        batch = Batch(id="batch_x", status="completed", output_file_id=coe.files.upload(content).id)
        with pytest.raises(InvalidAnswer, match="a line of a batch's output is n"):
            list(coe.batches.results(batch))


def test_results_of_a_batch_without_any_say_why(service: MockService) -> None:
    problems = {"object": "list", "data": [{"code": "invalid_file", "message": "the file has no lines"}]}
    with service.client() as coe:
        with pytest.raises(BatchFailed, match="the batch b failed: the file has no lines") as caught:
            list(coe.batches.results(Batch(id="b", status="failed", errors=problems)))
        assert caught.value.batch == "b"
        batch = coe.batches.create(coe.files.upload(["a"]))
        with pytest.raises(ConfigError, match="is in_progress; wait for its end first"):
            list(coe.batches.results(batch))


# All at once


def test_run_gives_the_results_and_leaves_no_file(service: MockService, clock: Clock) -> None:
    with service.client(**clock.settings()) as coe:
        results = coe.batches.run([f"q{n}" for n in range(12)], metadata={"for": "me"}, poll=2)
        assert [own.answer.text for own in results] == [f"heard q{n}" for n in range(12)]
        assert coe.files.list() == ()
        [batch] = coe.batches.list()
        assert (batch.metadata, batch.status) == ({"for": "me"}, "completed")
        assert coe.batches.run(iter([])) == []
        coe.batches.run(["a"], keep_files=True)
        assert len(coe.files.list()) == 2


async def test_the_asynchronous_client_does_the_same(service: MockService, clock: Clock) -> None:
    seen: list[str] = []
    async with service.async_client(**clock.settings(blocking=False)) as coe:
        results = await coe.batches.run(["a", "b"], on_progress=lambda batch: seen.append(batch.status))
        assert [own.answer.text for own in results] == ["heard a", "heard b"]
        batch = await coe.batches.wait(
            await coe.batches.create(
                await coe.files.upload(
                    b'{"custom_id": "x", "url": "/v1/chat/completions", "body": {"messages": [{"content": "c"}]}}\n'
                )
            )
        )
        assert [own.answer.text async for own in coe.batches.results(batch)] == ["heard c"]
    assert seen == ["in_progress", "completed"]


def interrupt(_: Batch) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("leave", [interrupt, None])
def test_leaving_run_early_cancels_the_batch(
    service: MockService, clock: Clock, leave: Callable[[Batch], None] | None
) -> None:
    service.batches.looks = 1000
    with service.client(**clock.settings()) as coe:
        with pytest.raises((KeyboardInterrupt, TimedOut)):
            coe.batches.run(["a"], on_progress=leave, timeout=5)
        [batch] = coe.batches.list()
        assert batch.status == "cancelled"
        assert coe.files.list() == ()


async def test_cancelling_run_cancels_the_batch(service: MockService) -> None:
    service.batches.looks = 1000
    looked = asyncio.Event()
    async with service.async_client() as coe:
        task = asyncio.create_task(coe.batches.run(["a"], poll=60, on_progress=lambda _: looked.set()))
        await looked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [own.status for own in await coe.batches.list()] == ["cancelled"]


def test_a_download_is_tried_again_from_its_beginning(clock: Clock) -> None:
    """The connection breaks in the middle of the first try."""
    tries: list[int] = []

    class Half(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"half of "
            raise httpx.ReadError("gone")

    def respond(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        return httpx.Response(200, stream=Half()) if len(tries) == 1 else httpx.Response(200, content=b"whole")

    with Coe("http://a.test", "k", transport=httpx.MockTransport(respond), **clock.settings()) as coe:
        assert coe.files.content("file-x") == b"whole"
    assert len(tries) == 2


async def test_nobody_there_is_told(service: MockService) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with AsyncCoe("http://a.test", "k", transport=httpx.MockTransport(respond), max_retries=0) as coe:
        with pytest.raises(ConnectionFailed):
            await coe.batches.run(["a"])


def test_a_result_of_another_kind_is_not_taken_for_an_answer(service: MockService) -> None:
    body = {"object": "list", "model": "m", "data": [{"index": 0, "embedding": [0.5]}], "usage": None}
    row = {
        "id": "1",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "r", "body": body},
        "error": None,
    }
    with service.client() as coe:
        batch = Batch(id="b", status="completed", output_file_id=coe.files.upload(json.dumps(row).encode()).id)
        [result] = coe.batches.results(batch)
    assert result.embeddings.vectors == ((0.5,),)
    assert not isinstance(result.outcome, Answer)
    with pytest.raises(TypeError, match="take 'embeddings'"):
        _ = result.answer
