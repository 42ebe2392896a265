"""Streams of `responses`: typed events, the answer that they are the pieces of, and what breaks on the way."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from coe_client import Overloaded, StreamBroken, ToolCall
from coe_client.testing import MockService, Reply
from tests.client.virtual import Clock

CREATED: Any = {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}
MESSAGE: Any = {"id": "m", "type": "message", "content": []}
CALL: Any = {"id": "f", "type": "function_call", "call_id": "c", "name": "weather", "arguments": ""}


def added(place: int, item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def delta(place: int, kind: str, text: str) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": place, "delta": text}


def service_of(*events: Mapping[str, Any], lost: bool = False) -> MockService:
    frames = tuple(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return MockService(lambda _: Reply(headers={"content-type": "text/event-stream"}, frames=frames, lost=lost))


def broken(*events: Mapping[str, Any], lost: bool = False) -> StreamBroken:
    with service_of(*events, lost=lost).client(max_retries=0) as coe, pytest.raises(StreamBroken) as caught:
        coe.responses_stream("hi").read()
    return caught.value


def test_text_and_calls_come_in_pieces_and_whole_at_the_end() -> None:
    service = MockService()
    service.answer("it is", tool_calls=[("weather", {"city": "Rome"}), ("clock", {})], category="sql")
    with service.client() as coe, coe.responses_stream("hi", tools=[], max_output_tokens=5) as stream:
        events = list(stream)
    assert service.requests[0].json["stream"] is True
    assert "stream_options" not in service.requests[0].json
    assert [event.text for event in events if event.text] == ["it", " is"]
    begun = [piece for event in events for piece in event.tool_calls if piece.name]
    assert [(piece.index, piece.id, piece.name) for piece in begun] == [
        (0, "call_0", "weather"),
        (1, "call_1", "clock"),
    ]
    assert [event.item["type"] for event in events if event.type.endswith("item.done") and event.item] == [
        "message",
        "function_call",
        "function_call",
    ]
    assert stream.answer.tool_calls == (
        ToolCall("call_0", "weather", '{"city": "Rome"}'),
        ToolCall("call_1", "clock", "{}"),
    )
    assert (stream.answer.text, stream.answer.finish_reason) == ("it is", "tool_calls")
    assert stream.answer.route is not None
    assert stream.answer.route.category == "sql"


def test_a_stream_that_was_cut_has_what_came_of_every_item() -> None:
    deltas = [delta(0, "output_text", "so"), delta(1, "function_call_arguments", '{"ci')]
    error = broken(CREATED, added(0, MESSAGE), deltas[0], added(1, CALL), deltas[1], lost=True)
    assert "connection was lost" in str(error)
    assert error.partial.text == "so"
    assert error.partial.tool_calls == (ToolCall("c", "weather", '{"ci'),)
    assert error.partial.finish_reason is None


def test_without_its_end_a_stream_is_not_whole() -> None:
    assert "ended before the stream was complete" in str(broken(CREATED, added(0, MESSAGE)))


FAILED: Any = {"id": "r", "status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "engine_died", "message": "no", "param": "p"}, "engine_died"),
        ({"type": "response.failed", "response": FAILED}, "server_error"),
        ({"error": {"code": "of_a_proxy", "message": "no", "type": "server_error"}}, "of_a_proxy"),
        ({"type": "response.failed"}, None),
    ],
)
def test_an_error_in_a_stream_is_told_in_any_of_its_shapes(event: Any, code: str | None) -> None:
    error = broken(CREATED, added(0, MESSAGE), delta(0, "output_text", "so"), event)
    assert (error.code, error.partial.text) == (code, "so")


@pytest.mark.parametrize(
    "event",
    [
        {"type": 3},
        {"output_index": 0},
        {"type": "response.completed"},
        {"type": "response.completed", "response": {"id": "r"}},
        {"type": "response.completed", "response": 3},
        added(0, None),
        added(0, {"type": "message", "content": [{"type": "output_text"}]}),
        delta(7, "output_text", "of nothing"),
        {"type": "response.output_text.delta", "output_index": 0, "delta": 3},
    ],
)
def test_what_is_no_event_breaks_the_stream(event: Any) -> None:
    error = broken(CREATED, event)
    assert "the stream is unreadable" in str(error)
    assert error.partial.text == ""


def test_events_of_a_later_protocol_are_passed_on() -> None:
    new = {"type": "response.thought.delta", "output_index": 0, "delta": "hm", "mood": 3}
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}
    with service_of(CREATED, added(0, {"type": "thought"}), new, end).client() as coe:
        events = list(coe.responses_stream("hi"))
    assert (events[2].type, events[2].text, events[2].raw) == (new["type"], "", new)
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize(("code", "tried"), [("overloaded", 2), ("invalid_value", 1)])
def test_an_error_before_the_first_event_is_tried_again_if_it_may_pass(code: str, tried: int) -> None:
    service = service_of({"type": "error", "code": code, "message": "no", "param": None})
    with service.client(max_retries=1, **Clock().settings()) as coe, pytest.raises(StreamBroken):
        coe.responses_stream("hi").read()
    assert len(service.requests) == tried


def test_a_refusal_with_a_status_is_no_stream() -> None:
    service = MockService()
    service.error(429, "overloaded")
    with service.client(max_retries=0) as coe, pytest.raises(Overloaded):
        coe.responses_stream("hi").read()
