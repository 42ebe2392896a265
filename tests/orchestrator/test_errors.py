import re
from pathlib import Path
from typing import get_args

import pytest

from experts.registry import UnknownExpert
from orchestrator import errors
from orchestrator.errors import TABLE, ApiError, from_exception, from_failure, quote
from orchestrator.keys import InvalidKey
from orchestrator.store import StoreUnavailable
from routers.base import NoCandidate
from workers.base import Failure, FailureCode

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.parametrize("code", get_args(FailureCode))
def test_every_failure_of_a_worker_has_a_row(code: FailureCode) -> None:
    assert from_failure(Failure(code, "why")).row == TABLE[code]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError("invalid_json", "x"), 400, "invalid_json"),
        (UnknownExpert("x", ["y"]), 404, "model_not_found"),
        (InvalidKey("x"), 401, "invalid_api_key"),
        (NoCandidate("x"), 503, "no_expert"),
        (StoreUnavailable("x"), 503, "store_unavailable"),
        (errors.Overloaded("x"), 429, "overloaded"),
        (TimeoutError(), 504, "deadline_exceeded"),
        (ZeroDivisionError("x"), 500, "internal_error"),
    ],
)
def test_every_exception_has_a_row(error: Exception, status: int, code: str) -> None:
    assert (from_exception(error).row.status, from_exception(error).row.code) == (status, code)


@pytest.mark.parametrize("error", [StoreUnavailable("redis://10.0.0.7 is away"), KeyError("redis://10.0.0.7")])
def test_what_is_inside_stays_inside(error: Exception) -> None:
    body = str(from_exception(error).body("req-7"))
    assert "10.0.0.7" not in body
    assert "req-7" in body


def test_only_faults_of_the_service_name_the_request() -> None:
    assert ApiError("invalid_value", "too long").body("req-7")["error"]["message"] == "too long"
    assert ApiError("engine_died", "it went down.").body("req-7")["error"]["message"] == "it went down (request req-7)"


def test_trying_again_is_offered_where_it_makes_sense() -> None:
    assert {cause for cause, row in TABLE.items() if row.retry_after is not None} == {
        cause for cause, row in TABLE.items() if row.status in (429, 503)
    }
    assert ApiError("overloaded", "x").headers == {"retry-after": "1"}


def test_codes_are_distinct() -> None:
    assert len({row.code for row in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize("value", ["x" * 10**6, b"y" * 10**6, ["z" * 50] * 1000, {"a": "z" * 1000}, 10**4000])
def test_a_quoted_value_is_short(value: object) -> None:
    assert len(quote(value)) < 120


def test_the_docs_have_this_table() -> None:
    section = DOCS.read_text().split("\n## Errors\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.*?)` \| (\d+) \| `(.*?)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    assert rows == [
        (row.code, str(row.status), row.type, f"{row.retry_after} s" if row.retry_after else "", row.meaning)
        for row in TABLE.values()
    ]
