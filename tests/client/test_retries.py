"""When a request is tried again, and after how long."""

from email.utils import formatdate

import httpx
import pytest

from coe_client import (
    Backoff,
    BadRequest,
    Conflict,
    ConnectionFailed,
    RateLimited,
    ServerError,
    TimedOut,
    Unavailable,
)
from coe_client.retries import may_retry, retry_after
from coe_client.testing import MockService
from tests.client.virtual import Clock

# The decisions


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert may_retry(status, {})
    assert not may_retry(status, {"x-should-retry": "false"})


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 413, 422])
def test_what_is_wrong_stays_wrong_unless_the_service_says_otherwise(status: int) -> None:
    assert not may_retry(status, {})
    assert may_retry(status, {"x-should-retry": "True"})
    assert not may_retry(status, {"x-should-retry": "perhaps"})


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_pauses_double_up_to_a_bound_and_differ_between_clients() -> None:
    backoff = Backoff(first=0.5, most=8, jitter=0.5)
    assert [backoff.seconds(number, None, 0) for number in range(6)] == [0.5, 1, 2, 4, 8, 8]
    assert backoff.seconds(1, None, 0.5) == 0.75
    assert backoff.seconds(10_000, None, 0) == 8
    assert backoff.seconds(5, 3, 0) == 3
    assert 3 < backoff.seconds(5, 3, 0.99) < 3.3  # never sooner than the service said


# The requests


def test_a_request_is_tried_again_under_one_idempotency_key() -> None:
    service, clock = MockService(), Clock()
    service.error(500)
    service.lose(httpx.ReadError)
    service.answer("a")
    service.answer("b")
    with service.client(**clock.settings()) as coe:
        assert coe.chat("one").text == "a"
        assert coe.chat("two").text == "b"
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert [request.json["messages"][0]["content"] for request in service.requests] == ["one", "one", "one", "two"]
    assert clock.slept == [0.5, 1]


async def test_the_asynchronous_client_tries_again_just_so() -> None:
    service, clock = MockService(), Clock()
    service.error(500)
    service.lose(httpx.ReadError)
    service.answer("a")
    async with service.async_client(**clock.settings(blocking=False)) as coe:
        assert (await coe.chat("one")).text == "a"
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert clock.slept == [0.5, 1]


def test_a_key_of_yours_is_kept_and_reading_needs_none() -> None:
    service = MockService()
    service.answer("a")
    service.reply({"data": []})
    with service.client() as coe:
        coe.chat("hi", idempotency_key="mine")
        coe.models()
    assert service.requests[0].headers["idempotency-key"] == "mine"
    assert "idempotency_key" not in service.requests[0].json
    assert "idempotency-key" not in service.requests[1].headers


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_so_many_retries_the_last_error_is_raised(max_retries: int) -> None:
    service, clock = MockService(), Clock()
    for status in (500, 502, 504, 500)[: max_retries + 1]:
        service.error(status)
    with service.client(max_retries=max_retries, **clock.settings()) as coe, pytest.raises(ServerError) as caught:
        coe.chat("hi")
    assert caught.value.status == (500, 502, 504, 500)[max_retries]
    assert len(service.requests) == max_retries + 1
    assert service.left == 0


def test_the_word_of_the_service_goes_before_the_status() -> None:
    service, clock = MockService(), Clock()
    service.error(500, headers={"x-should-retry": "false"})
    service.error(400, headers={"x-should-retry": "true"})
    service.answer("a")
    with service.client(**clock.settings()) as coe:
        with pytest.raises(ServerError):
            coe.chat("hi")
        assert coe.chat("hi").text == "a"
    assert clock.slept == [0.5]


def test_retry_after_is_waited_in_full() -> None:
    service, clock = MockService(), Clock(random=0.5)
    service.error(429, headers={"retry-after": "20"})
    service.error(503, headers={"retry-after": formatdate(clock.now + 21 + 40, usegmt=True)})
    service.answer("a")
    with service.client(**clock.settings()) as coe:
        coe.chat("hi")
    assert clock.slept == [21, 42]


def test_a_pause_beyond_the_time_limit_is_not_begun() -> None:
    service, clock = MockService(), Clock()
    service.error(429, "rate_limit", headers={"retry-after": "3600"})
    with service.client(timeout=60, **clock.settings()) as coe, pytest.raises(RateLimited) as caught:
        coe.chat("hi")
    assert caught.value.retry_after == 3600
    assert clock.slept == []


def test_the_time_limit_is_for_all_tries_together() -> None:
    service, clock = MockService(), Clock()
    left: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        left.append(request.extensions["timeout"]["read"])
        clock.now += 4
        return httpx.Response(503)

    settings = {**clock.settings(), "transport": httpx.MockTransport(handle)}
    with service.client(timeout=10, max_retries=9, **settings) as coe, pytest.raises(Unavailable):
        coe.chat("hi")
    assert left == [10, 5.5, 0.5]


def test_a_request_may_have_a_time_limit_of_its_own() -> None:
    service, clock = MockService(), Clock()
    for _ in range(2):
        service.error(503, headers={"retry-after": "5"})
    service.answer("a")
    with service.client(timeout=1, **clock.settings()) as coe:
        with pytest.raises(Unavailable):
            coe.chat("hi")
        assert coe.chat("hi", timeout=10).text == "a"


@pytest.mark.parametrize(
    ("lost", "raised"),
    [
        (httpx.ConnectError, ConnectionFailed),
        (httpx.RemoteProtocolError, ConnectionFailed),
        (httpx.ConnectTimeout, TimedOut),
        (httpx.ReadTimeout, TimedOut),
        (httpx.PoolTimeout, TimedOut),
    ],
)
def test_no_answer_is_a_failed_connection(lost: type[httpx.TransportError], raised: type[ConnectionFailed]) -> None:
    service, clock = MockService(), Clock()
    for _ in range(3):
        service.lose(lost)
    with service.client(**clock.settings()) as coe, pytest.raises(raised) as caught:
        coe.chat("hi")
    assert type(caught.value) is raised
    assert "http://coe.mock" in str(caught.value)
    assert isinstance(caught.value.__cause__, lost)
    assert len(service.requests) == 3


def test_an_answer_that_trickles_on_and_on_is_cut_by_the_time_limit() -> None:
    clock = Clock()

    def trickle() -> object:
        while True:
            clock.now += 1
            yield b" "

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=trickle())  # type: ignore[arg-type]

    service = MockService()
    settings = {**clock.settings(), "transport": httpx.MockTransport(handle)}
    with service.client(timeout=5, **settings) as coe, pytest.raises(TimedOut):
        coe.chat("hi")
    assert clock.now == 1006


def test_errors_of_the_request_are_not_tried_again() -> None:
    service = MockService()
    service.error(400)
    with service.client() as coe, pytest.raises(BadRequest):
        coe.chat("hi")
    service.error(409, headers={"x-should-retry": "false"})
    with service.client() as coe, pytest.raises(Conflict):
        coe.chat("hi")
    assert len(service.requests) == 2
