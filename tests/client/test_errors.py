"""The tree of errors, what each carries, and what none of them tells."""

import copy
import pickle
import re
import traceback
from typing import Any

import pytest

from coe_client import errors
from coe_client.errors import (
    AuthenticationFailed,
    BadRequest,
    CoeError,
    Conflict,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ServerError,
    StatusError,
    StreamBroken,
    Unavailable,
)
from coe_client.testing import KEY, MockService


def test_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for indent, name in re.findall(r"^( *)`(\w+)` ", errors.__doc__ or "", re.MULTILINE):
        above = [*above[: len(indent) // 2], name]
        drawn[name] = above[-2] if len(above) > 1 else None
    real = {
        name: None if kind is CoeError else kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, CoeError)
    }
    assert drawn == real


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_value", BadRequest),
        (401, "invalid_api_key", AuthenticationFailed),
        (403, None, PermissionDenied),
        (404, "model_not_found", NotFound),
        (405, "method_not_allowed", BadRequest),
        (409, None, Conflict),
        (413, "request_too_large", BadRequest),
        (422, None, BadRequest),
        (418, None, StatusError),
        (429, "rate_limit_exceeded", RateLimited),
        (429, "overloaded", Overloaded),
        (500, "internal_error", ServerError),
        (503, "no_expert", Unavailable),
        (504, "deadline_exceeded", ServerError),
        (599, None, ServerError),
    ],
)
def test_a_status_has_its_class(status: int, code: str | None, kind: type[StatusError]) -> None:
    service = MockService()
    service.error(status, code, "what was wrong", param="messages[0]", headers={"retry-after": "7"})
    with service.client(max_retries=0) as coe, pytest.raises(kind) as caught:
        coe.chat("hi")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.param, error.retry_after) == (status, code, "messages[0]", 7)
    assert error.request_id == "req-mock"
    assert error.body["error"]["message"] == "what was wrong"
    assert str(error) == f"{status} {code}: what was wrong" if code else f"{status}: what was wrong"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"<html>\n bad gateway </html>", "502: <html> bad gateway </html>"),
        (b"", "502: without a word"),
        ({"detail": "x"}, "502: {'detail': 'x'}"),
        ({"error": "just text"}, "502: {'error': 'just text'}"),
        ([1], "502: [1]"),
    ],
)
def test_an_error_of_something_between_is_told_as_it_came(body: Any, shown: str) -> None:
    service = MockService()
    service.reply(body, status=502)
    with service.client(max_retries=0) as coe, pytest.raises(ServerError) as caught:
        coe.chat("hi")
    assert str(caught.value) == shown


def test_a_long_page_is_not_repeated_in_full() -> None:
    service = MockService()
    service.reply(b"x" * 10_000, status=500)
    with service.client(max_retries=0) as coe, pytest.raises(ServerError) as caught:
        coe.chat("hi")
    assert len(str(caught.value)) < 400
    assert len(caught.value.body) == 10_000


def test_a_redirect_is_not_followed_with_the_key() -> None:
    service = MockService()
    service.reply(b"", status=307, headers={"location": "http://elsewhere.test/"})
    with service.client() as coe, pytest.raises(StatusError, match="set base_url to where it leads"):
        coe.chat("hi")
    assert len(service.requests) == 1


def test_the_key_is_in_no_message_body_repr_or_traceback() -> None:
    service = MockService()
    service.error(400, message=f"the header was 'Bearer {KEY}'")
    service.lose()
    with service.client(max_retries=0) as coe:
        told = [repr(coe), repr(coe._core.settings)]
        for _ in range(2):
            with pytest.raises(CoeError) as caught:
                coe.chat("hi")
            error = caught.value
            told += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    assert "Bearer [key]" in told[2]
    assert not [text for text in told if KEY in text]


def test_errors_survive_processes_and_copies() -> None:
    service = MockService()
    service.error(429, "overloaded", headers={"retry-after": "2"})
    service.stream(["a"], lost=True)
    with service.client(max_retries=0) as coe:
        with pytest.raises(Overloaded) as overloaded:
            coe.chat("hi")
        with pytest.raises(StreamBroken) as broken:
            coe.chat_stream("hi").read()
    for again in (pickle.loads(pickle.dumps(overloaded.value)), copy.copy(overloaded.value)):
        assert isinstance(again, Overloaded)
        assert (str(again), again.status, again.retry_after) == (str(overloaded.value), 429, 2)
    same = pickle.loads(pickle.dumps(broken.value))
    assert isinstance(same, StreamBroken)
    assert same.partial == broken.value.partial
