"""Spans as they are recorded: whose trace they are of, what a call leaves behind, and what is not told."""

import json

import pytest

from tests.otlp import ABOVE, TRACE, TRACEPARENT
from tests.workers.tracing_parts import Kept
from workers.base import Failure, Finish, Phases, Usage
from workers.tracing import names
from workers.tracing.calls import end_call
from workers.tracing.content import messages_in
from workers.tracing.spans import NO_SPAN, OFF, Parent, Span

# Trace context


def test_a_traceparent_is_read_as_w3c_has_it() -> None:
    assert Parent.of(TRACEPARENT) == Parent(int(TRACE, 16), int(ABOVE, 16), True)
    assert Parent.of(f"00-{TRACE}-{ABOVE}-00") == Parent(int(TRACE, 16), int(ABOVE, 16), False)
    later = Parent.of(f"cc-{TRACE}-{ABOVE}-01-what-the-future-will-be-like")
    assert later == Parent(int(TRACE, 16), int(ABOVE, 16), True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{ABOVE}-01",
        f"00-{TRACE}-{ABOVE}-01-more",
        f"00-{'0' * 32}-{ABOVE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{ABOVE}-01",
        f"00-{TRACE}-{ABOVE}-1",
        f"00-{TRACE}-{ABOVE}-01\u00e9",
    ],
)
def test_what_is_none_is_as_none(text: str) -> None:
    assert Parent.of(text) is None


# A span


def test_a_child_is_of_its_parents_trace_and_ends_once() -> None:
    kept = Kept()
    top = Span(kept, "top", "server", 7, 0, {"a": 1})
    below = top.child("below", "client", {"b": None})
    assert isinstance(below, Span)
    assert (below.trace_id, below.parent_id, below.kind) == (7, top.span_id, "client")
    assert top.traceparent == f"00-{7:032x}-{top.span_id:016x}-01"
    below.set({"b": 2})
    below.end(at=5)
    below.end(at=6)
    assert [(span.name, span.ended, span.attributes) for span in kept.spans] == [("below", 5, {"b": 2})]


def test_without_traces_a_span_is_nothing() -> None:
    span = OFF.request("POST /", TRACEPARENT)
    assert span is NO_SPAN
    assert span.child("a").child("b") is span
    assert (span.traceparent, span.trace, span.is_on, span.content) == ("", None, False, False)


@pytest.mark.parametrize(
    ("error", "left", "attributes"), [("a", None, {names.ERROR_TYPE: "a"}), ("b", "b", {}), (None, None, {})]
)
def test_an_error_that_is_excused_is_an_attribute_and_no_error(
    error: str | None, left: str | None, attributes: dict[str, str]
) -> None:
    span = Span(Kept(), "POST /", "server", 7, 0, None)
    if error:
        span.fail(error)
    span.excuse({"a"})
    assert (span.error, span.attributes) == (left, attributes)


# The spans of a call in its worker


def test_a_calls_phases_stand_one_behind_the_other() -> None:
    kept = Kept()
    span = Span(kept, "engine a", "server", 7, 1, None, began=1_000)
    end_call(span, Finish("stop", "a", Usage(3, 4), Phases(queue=1e-6, swap=2e-6, prefill=3e-6, decode=4e-6)))
    assert [(own.name, own.began, own.ended) for own in kept.spans[:-1]] == [
        ("queue", 1_000, 2_000),
        ("swap", 2_000, 4_000),
        ("prefill", 4_000, 7_000),
        ("decode", 7_000, 11_000),
    ]
    assert {own.parent_id for own in kept.spans[:-1]} == {span.span_id}
    assert kept.spans[-1].attributes == {}, "model and usage are its parent's: a sum over spans would count them twice"


def test_a_call_without_a_swap_has_no_span_of_one() -> None:
    kept = Kept()
    end_call(Span(kept, "engine a", "server", 7, 1, None), Finish("stop", "a", Usage(), Phases(prefill=1.0)))
    assert [own.name for own in kept.spans] == ["queue", "prefill", "decode", "engine a"]


def test_a_call_that_failed_tells_its_code_and_no_message() -> None:
    kept = Kept()
    end_call(Span(kept, "engine a", "server", 7, 1, None), Failure("deadline", "secret words"))
    [own] = kept.spans
    assert (own.error, own.attributes) == ("deadline", {})


def test_a_call_for_which_nobody_waits_any_longer_has_not_failed() -> None:
    kept = Kept()
    end_call(Span(kept, "engine a", "server", 7, 1, None), None)
    [own] = kept.spans
    assert (own.error, own.attributes) == (None, {names.ERROR_TYPE: "cancelled"})


def test_content_is_cut_and_the_last_messages_stay() -> None:
    given = [{"role": "user", "content": f"{number} " + "x" * 9000} for number in range(20)]
    told = [part["parts"][0]["content"] for part in json.loads(messages_in(given))]
    assert [text.split()[0] for text in told] == [str(number) for number in range(12, 20)]
    assert {len(text) for text in told} == {8192}
