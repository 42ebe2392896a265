"""What is wrong with an input is told line by line; only a file without any line to speak of fails as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.lines import read
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import errors, output, run
from tests.orchestrator.parts import BATCH, SQL, Service

GOOD = jsonl.chat("good", "some sql")
BODY = {"model": SQL, "messages": [{"role": "user", "content": "hi"}]}


def without(field: str) -> str:
    data = json.loads(GOOD)
    del data[field]
    return json.dumps(data)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ('{"custom_id": "x", ', "invalid_json", "the line is not valid JSON"),
        ("nonsense", "invalid_json", "the line is not valid JSON"),
        ("[1, 2]", "invalid_json", "the line must be a JSON object"),
        ("null", "invalid_json", "the line must be a JSON object"),
        ('{"a": NaN}', "invalid_json", "the line is not valid JSON"),
        ("[" * 1000, "invalid_json", "nested deeper"),
        (without("custom_id"), "invalid_value", "missing: custom_id"),
        (without("method"), "invalid_value", "missing: method"),
        (without("url"), "invalid_value", "missing: url"),
        (without("body"), "invalid_value", "missing: body"),
        (jsonl.line("", BODY), "invalid_value", "custom_id: must be a string of 1 to 512 characters"),
        (jsonl.line("i" * 513, BODY), "invalid_value", "custom_id: must be"),
        (jsonl.line(7, BODY), "invalid_value", "custom_id: must be"),  # type: ignore[arg-type]
        (jsonl.line("x", BODY, method="GET"), "invalid_value", "method: must be 'POST'; got 'GET'"),
        (jsonl.line("x", BODY, url="/v1/completions"), "invalid_value", "url: must be '/v1/chat/completions'"),
        (jsonl.line("x", [1]), "invalid_value", "body: must be a JSON object"),
        (jsonl.line("x", {**BODY, "mood": "good"}), "unknown_parameter", "unknown field 'mood'"),
        (jsonl.line("x", {**BODY, "temperature": 3}), "invalid_value", "temperature"),
        (jsonl.line("x", {**BODY, "stream": True}), "unsupported_parameter", "stream"),
        (jsonl.line("x", {**BODY, "model": "sqll"}), "model_not_found", "did you mean 'sql'"),
        (jsonl.line("x", {**BODY, "model": "ensemble/none"}), "model_not_found", "no ensemble"),
        (jsonl.line("x", {**BODY, "model": "auto", "coe": {"needs": ["image"]}}), "no_expert_allowed", "needs"),
        (json.dumps({**json.loads(GOOD), "extra": 1}), "unknown_parameter", "unknown field 'extra'"),
        (jsonl.chat("x", "y" * 30_000), "request_too_large", "the limit is 24,096"),
    ],
)
async def test_a_bad_line_is_told_and_hinders_no_other(service: Service, line: str, code: str, says: str) -> None:
    batch = await run(service, jsonl.file(["", GOOD, line, jsonl.chat("last", "more sql")]))
    assert batch.status == "completed"
    assert [row["custom_id"] for row in await output(service, batch)] == ["good", "last"]
    [row] = await errors(service, batch)
    assert (row["error"]["code"], row["error"]["line"], row["response"]) == (code, 3, None)
    assert says in row["error"]["message"]
    assert {"message", "type", "param", "code"} <= set(row["error"])
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (3, 2, 1)


async def test_of_lines_with_one_id_the_first_is_run(service: Service) -> None:
    lines = [jsonl.chat("a", "sql 1"), jsonl.chat("b", "sql 2"), jsonl.chat("a", "sql 3"), jsonl.chat("a", "sql 4")]
    batch = await run(service, jsonl.file(lines))
    assert [jsonl.said(row) for row in await output(service, batch)] == ["sql heard: sql 1", "sql heard: sql 2"]
    told = [row["error"] for row in await errors(service, batch)]
    assert [error["line"] for error in told] == [3, 4]
    assert {error["message"] for error in told} == {"custom_id: 'a' stands in line 1 already; ids must differ"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_a_byte_order_mark_and_other_line_ends_are_no_matter(service: Service, end: str) -> None:
    content = b"\xef\xbb\xbf" + end.join([GOOD, "", "   ", jsonl.chat("é", "sql ü")]).encode()  # and no last end
    batch = await run(service, content)
    assert [row["custom_id"] for row in await output(service, batch)] == ["good", "é"]
    assert await errors(service, batch) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file has no lines"),
        (b"\n \r\n\n", "the file has no lines"),
        (b"\xef\xbb\xbf", "the file has no lines"),
        ("\ufeffx".encode("utf-16-le"), "UTF-16"),
        (b"\x1f\x8b\x08\x00rest", "packed"),
    ],
)
async def test_a_file_without_a_line_fails_and_says_why(service: Service, content: bytes, says: str) -> None:
    batch = await run(service, content)
    assert batch.status == "failed"
    assert batch.errors is not None
    [error] = batch.errors.data or []
    assert error.code == "invalid_file"
    assert says in (error.message or "")
    assert batch.output_file_id is batch.error_file_id is None


async def test_a_file_of_bad_lines_alone_ends_with_their_errors(service: Service) -> None:
    batch = await run(service, b"one\ntwo\n")
    assert batch.status == "completed"
    assert [row["error"]["line"] for row in await errors(service, batch)] == [1, 2]
    assert not service.engine.calls


async def test_too_many_lines_fail_the_batch(store: Store, tmp_path: Path) -> None:
    service = await Service.start(store, batch=tmp_path, batch_config=BATCH.model_copy(update={"lines": 2}))
    batch = await run(service, jsonl.file([GOOD] * 3))
    assert batch.errors is not None
    assert "more than 2 lines" in str((batch.errors.data or [])[0].message)
    await service.stop()


@pytest.mark.parametrize("endpoint", ["/v1/models", "/v1/batches", ""])
async def test_batches_are_for_four_endpoints(service: Service, endpoint: str) -> None:
    body: dict[str, Any] = {"input_file_id": "file-x", "endpoint": endpoint, "completion_window": "24h"}
    answer = await service.http.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "endpoint")


def test_no_line_is_in_memory_that_is_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"a\n" + b"x" * 5_000_000 + b"\n\nb")
    with path.open("rb") as file:
        found = list(read(file, 100))
    assert [(raw.number, raw.length, raw.data) for raw in found] == [
        (1, 1, b"a"),
        (2, 5_000_001, None),
        (4, 1, b"b"),
    ]
    assert [raw.offset for raw in found] == [0, 2, 5_000_004]


@pytest.mark.parametrize("length", range(95, 105))
def test_the_limit_of_a_line_is_exact(tmp_path: Path, length: int) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * length + b"\r\n" + b"next\n")
    with path.open("rb") as file:
        first, second = read(file, 100)
    assert (first.data is None) == (length > 100)
    assert (second.data, second.offset, second.number) == (b"next", length + 2, 2)
