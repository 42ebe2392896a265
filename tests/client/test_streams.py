"""Streams: bytes to events, events to chunks, chunks to the answer, and what breaks on the way."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_client import ConnectionFailed, InvalidAnswer, Overloaded, StreamBroken, ToolCall
from coe_client.sse import Events
from coe_client.testing import MockService
from tests.client.virtual import Clock

# Events


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_the_standard_has_it(end: str) -> None:
    text = end.join(
        [": a comment", "event: x", "data: one", "", "data:two", "data: more", "", "id: 3", "", "data", "", ""]
    )
    events = Events()
    # The last CR may be the half of a line's end, until more comes.
    assert events.feed(text.encode()) + events.feed(b": end\n") == ["one", "two\nmore", ""]


@given(st.lists(st.text(), max_size=5), st.integers(1, 7))
def test_events_are_the_same_however_the_bytes_are_cut(texts: list[str], size: int) -> None:
    data = b"".join(
        b"data: " + json.dumps(text, ensure_ascii=False).encode("utf-8", "replace") + b"\r\n\r\n" for text in texts
    )
    cut = Events()
    pieces = [event for at in range(0, len(data), size) for event in cut.feed(data[at : at + size])]
    assert pieces == Events().feed(data)
    assert len(pieces) == len(texts)


def test_characters_that_only_python_takes_for_line_ends_stay_in_the_text() -> None:
    assert Events().feed("data: a\u2028b\x85c\x0bd\n\n".encode()) == ["a\u2028b\x85c\x0bd"]


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coe_client.sse.MAX_EVENT", 10)
    events = Events()
    assert events.feed(b"data: 123") == []
    with pytest.raises(ValueError, match="over 10 bytes"):
        events.feed(b"456")


# A stream that is well


def test_chunks_come_with_text_and_the_answer_at_the_end() -> None:
    service = MockService()
    service.answer("one two three", expert="smol-cron", category="cron")
    with service.client() as coe, coe.chat_stream("hi") as stream:
        first = next(stream)
        assert first.text == ""
        assert first.route is not None
        assert (first.route.expert, first.route.used) == ("smol-cron", ())
        assert stream.partial.text == ""
        with pytest.raises(RuntimeError, match="not read to its end"):
            _ = stream.answer
        assert list(stream.texts()) == ["one", " two", " three"]
        answer = stream.answer
    assert service.requests[0].json["stream"] is True
    assert service.requests[0].json["stream_options"] == {"include_usage": True}
    assert service.requests[0].headers["accept"] == "text/event-stream"
    assert (answer.text, answer.model, answer.finish_reason) == ("one two three", "smol-cron", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert answer.route is not None
    assert answer.route.used == ("smol-cron",)


def test_a_stream_and_a_whole_answer_are_the_same_answer() -> None:
    service = MockService()
    for _ in range(2):
        service.answer("a b", category="x", tool_calls=[("f", {"long": "argument", "n": [1, 2]}), ("g", {})])
    with service.client() as coe:
        whole, streamed = coe.chat("hi"), coe.chat_stream("hi").read()
    assert whole.choices == streamed.choices
    assert (whole.id, whole.model, whole.usage, whole.route) == (
        streamed.id,
        streamed.model,
        streamed.usage,
        streamed.route,
    )
    assert streamed.tool_calls == (
        ToolCall("call_0", "f", '{"long": "argument", "n": [1, 2]}'),
        ToolCall("call_1", "g", "{}"),
    )


async def test_an_asynchronous_stream_is_the_same() -> None:
    service = MockService()
    service.answer("a b c")
    service.answer("a b c")
    async with service.async_client() as coe:
        async with coe.chat_stream("hi") as stream:
            texts = [text async for text in stream.texts()]
        read = await coe.chat_stream("hi").read()
    assert texts == ["a", " b", " c"]
    assert stream.answer == read
    assert service.closed == [True, True]


def sse(*events: Any, done: bool = True) -> tuple[bytes, dict[str, str]]:
    frames = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return (frames + "data: [DONE]\n\n" * done).encode(), {"content-type": "text/event-stream"}


def test_choices_and_logprobs_are_put_together_by_their_index() -> None:
    def event(index: int, text: str, logprob: float, finish: str | None = None) -> dict[str, Any]:
        logprobs = {"content": [{"token": text, "logprob": logprob}]}
        choice = {"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": finish}
        return {"id": "1", "model": "m", "choices": [choice]}

    service = MockService()
    body, headers = sse(event(1, "b", -2), event(0, "a", -1), event(1, "B", -4, "length"), event(0, "A", -3, "stop"))
    service.reply(body, headers=headers)
    with service.client() as coe:
        answer = coe.chat_stream("hi", n=2).read()
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [("aA", "stop"), ("bB", "length")]
    assert answer.logprobs == {"content": [{"token": "a", "logprob": -1}, {"token": "A", "logprob": -3}]}


def test_what_comes_after_the_end_is_left_alone() -> None:
    service = MockService()
    body, headers = sse({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    service.reply(body + b"data: nonsense\n\n", headers=headers)
    with service.client() as coe:
        assert coe.chat_stream("hi").read().text == "a"


# Leaving


def test_leaving_the_block_closes_the_connection() -> None:
    service = MockService()
    service.answer("one two three")
    with service.client() as coe:
        with coe.chat_stream("hi") as stream:
            for chunk in stream:
                if chunk.text:
                    break
            assert service.closed == [False]
        assert service.closed == [True]
        assert list(stream) == []
        assert stream.partial.text == "one"
        with pytest.raises(RuntimeError, match="partial"):
            _ = stream.answer


def test_a_stream_that_was_never_entered_sends_nothing() -> None:
    service = MockService()
    with service.client() as coe:
        stream = coe.chat_stream("hi")
        stream.close()
        with pytest.raises(RuntimeError, match="closed before it began"):
            next(stream)
    assert service.requests == []


# What breaks


def test_an_error_in_the_stream_carries_what_had_come() -> None:
    service = MockService()
    service.stream(["one", " two"], error={"code": "engine_died", "message": "it went down (request req-7)"})
    texts: list[str] = []
    with service.client() as coe, pytest.raises(StreamBroken, match="engine_died: it went down") as caught:
        texts.extend(coe.chat_stream("hi").texts())
    assert texts == ["one", " two"]
    assert caught.value.partial.text == "one two"
    assert caught.value.partial.finish_reason is None
    assert (caught.value.code, caught.value.type, caught.value.request_id) == (
        "engine_died",
        "server_error",
        "req-mock",
    )
    assert service.closed == [True]


def test_chunks_before_an_error_are_given_out_first() -> None:
    service = MockService()
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    body, headers = sse(chunk, chunk, {"error": {"message": "no", "type": "server_error", "code": "x"}})
    service.reply(body, headers=headers)
    seen: list[str] = []
    with service.client() as coe, pytest.raises(StreamBroken):
        seen.extend(chunk.text for chunk in coe.chat_stream("hi"))
    assert seen == ["a", "a"]


@pytest.mark.parametrize("lost", [True, False], ids=["reset", "ended"])
async def test_a_stream_without_its_end_is_broken(lost: bool) -> None:
    service = MockService()
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    for _ in range(2):
        if lost:
            service.stream(["a"], lost=True)
        else:
            body, headers = sse(chunk, done=False)
            service.reply(body, headers=headers)
    with service.client() as coe, pytest.raises(StreamBroken, match="connection") as caught:
        coe.chat_stream("hi").read()
    assert caught.value.partial.text == "a"
    async with service.async_client() as acoe:
        with pytest.raises(StreamBroken, match="connection"):
            await acoe.chat_stream("hi").read()
    assert len(service.requests) == 2  # what has begun is not begun again
    assert service.closed == [True, True]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("{half", "no JSON object: {half"),
        ("[1]", "no JSON object"),
        ({"no": "choices"}, "no 'choices'"),
        ({"choices": [], "coe": {"experts": 1}}, "experts"),
        ({"choices": ["a"]}, "unreadable"),
    ],
)
def test_what_is_no_chunk_breaks_the_stream(event: Any, why: str) -> None:
    service = MockService()
    body, headers = sse({"choices": [{"index": 0, "delta": {"content": "a"}}]}, event)
    service.reply(body, headers=headers)
    with service.client() as coe, pytest.raises(StreamBroken) as caught:
        coe.chat_stream("hi").read()
    assert why in str(caught.value)
    assert caught.value.partial.text == "a"


def test_an_answer_that_is_no_stream_is_refused() -> None:
    service = MockService()
    service.reply({"choices": []})
    with service.client() as coe, pytest.raises(InvalidAnswer, match="text/event-stream"):
        coe.chat_stream("hi").read()
    assert service.closed == [True]


# Trying again


def test_a_stream_is_tried_again_until_its_first_chunk() -> None:
    service, clock = MockService(), Clock()
    service.lose(httpx.ConnectError)
    service.error(503, "engine_starting", headers={"retry-after": "5"})
    body, headers = sse({"error": {"message": "no", "type": "server_error", "code": "engine_died"}})
    service.reply(body, headers=headers)
    empty, headers = sse(done=False)
    service.reply(empty, headers=headers)
    service.answer("at last")
    with service.client(max_retries=4, **clock.settings()) as coe:
        assert coe.chat_stream("hi").read().text == "at last"
    assert clock.slept == [0.5, 5, 2, 4]
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert service.closed == [True] * 4  # of the first there was nothing to close


def test_an_error_of_the_request_at_the_beginning_of_a_stream_is_not_tried_again() -> None:
    service = MockService()
    body, headers = sse({"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_value"}})
    service.reply(body, headers=headers)
    with service.client() as coe, pytest.raises(StreamBroken, match="invalid_value"):
        coe.chat_stream("hi").read()
    assert len(service.requests) == 1


def test_a_refused_stream_raises_as_a_refused_chat_does() -> None:
    service = MockService()
    service.error(429, "overloaded")
    service.lose()
    with service.client(max_retries=0) as coe:
        with pytest.raises(Overloaded), coe.chat_stream("hi"):
            pass
        with pytest.raises(ConnectionFailed):
            next(coe.chat_stream("hi"))


def test_the_time_limit_holds_while_a_stream_is_read() -> None:
    service, clock = MockService(), Clock()
    service.answer("one two three four")
    with service.client(timeout=10, **clock.settings()) as coe, coe.chat_stream("hi") as stream:
        for chunk in stream:
            if chunk.text == " two":
                clock.now += 11
                break
        with pytest.raises(StreamBroken, match="time limit") as caught:
            next(stream)
    assert caught.value.partial.text == "one two"
