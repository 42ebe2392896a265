"""The public mock: what a user's tests rely on."""

import pytest

from coe_client import ConnectionFailed, StreamBroken
from coe_client.testing import MockService, NothingLeft, answered


def test_answers_are_taken_in_order_and_each_try_takes_one() -> None:
    service = MockService()
    service.error(503)
    service.answer("a")
    service.answer("b")
    with service.client(sleep=lambda _: None) as coe:
        assert (coe.chat("1").text, coe.chat("2").text) == ("a", "b")
    assert [request.json["messages"][0]["content"] for request in service.requests] == ["1", "1", "2"]
    assert service.left == 0


async def test_a_request_without_an_answer_fails_the_test() -> None:
    service = MockService()
    with (
        service.client() as coe,
        pytest.raises(NothingLeft, match="POST /v1/chat/completions: request 1 has no"),
    ):
        coe.chat("hi")
    async with service.async_client() as acoe:
        with pytest.raises(AssertionError, match="request 2"):
            await acoe.chat("hi")


def test_answers_can_be_made_of_requests() -> None:
    service = MockService(lambda request: answered(request, request.json["model"].upper()))
    service.answer("put in first")
    with service.client() as coe:
        assert [coe.chat("hi").text, coe.chat("hi", model="b").text, coe.chat_stream("hi", model="c").read().text] == [
            "put in first",
            "B",
            "C",
        ]


def test_it_can_refuse_break_and_lose() -> None:
    service = MockService()
    service.stream(["a"], error={"code": "engine_died"})
    service.stream(["a"], lost=True)
    service.lose()
    with service.client(max_retries=0) as coe:
        for code in ("engine_died", None):
            with pytest.raises(StreamBroken) as caught:
                coe.chat_stream("hi").read()
            assert caught.value.code == code
        with pytest.raises(ConnectionFailed):
            coe.chat("hi")
