"""Spans: what is recorded, what is sent, and what it costs where nobody takes them."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.otlp import FAST, collector, spans_of
from workers.base import Failure, Finish, Phases, Usage
from workers.tracing import names
from workers.tracing.calls import end_call
from workers.tracing.content import messages_in
from workers.tracing.otlp import OtlpTracing
from workers.tracing.settings import TraceSettings, open_tracing, told_tracing
from workers.tracing.shipping import BUNDLE, GONE
from workers.tracing.spans import NO_SPAN, OFF, Fields, NoSpan, Parent, Span, Value, fields
from workers.tracing.wire import SCOPE, request

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{ABOVE}-01"


class Kept:
    """A sink that keeps spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)


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
    assert kept.spans[-1].attributes[names.OUTPUT_TOKENS] == 4


def test_a_call_without_a_swap_has_no_span_of_one() -> None:
    kept = Kept()
    end_call(Span(kept, "engine a", "server", 7, 1, None), Finish("stop", "a", Usage(), Phases(prefill=1.0)))
    assert [own.name for own in kept.spans] == ["queue", "prefill", "decode", "engine a"]


@pytest.mark.parametrize(("last", "error"), [(Failure("deadline", "secret words"), "deadline"), (None, "cancelled")])
def test_a_call_that_failed_tells_its_code_and_no_message(last: Failure | None, error: str) -> None:
    kept = Kept()
    end_call(Span(kept, "engine a", "server", 7, 1, None), last)
    [own] = kept.spans
    assert own.error == error
    assert "secret" not in str(own.attributes)


# Where they go


@pytest.mark.parametrize(
    ("endpoint", "environment", "url"),
    [
        (None, {}, ""),
        ("http://a:4318", {}, "http://a:4318/v1/traces"),
        ("http://a:4318/", {}, "http://a:4318/v1/traces"),
        ("http://a:4318", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:1/x"}, "http://b:1/x/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:1/own"}, "http://b:1/own"),
        ("http://a:4318", {"OTEL_SDK_DISABLED": "true"}, ""),
        ("http://a:4318", {"OTEL_TRACES_EXPORTER": "none"}, ""),
        ("http://a:4318", {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, "http://a:4318/v1/traces"),
    ],
)
def test_the_standard_variables_come_before_the_file(
    endpoint: str | None, environment: Mapping[str, str], url: str
) -> None:
    assert TraceSettings(endpoint).url(environment) == url


@pytest.mark.parametrize("environment", [{"OTEL_SDK_DISABLED": "True"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_a_worker_may_be_without_traces_whatever_its_gateway_has(environment: Mapping[str, str]) -> None:
    assert told_tracing("http://a:4318/v1/traces", "coe-worker", environment) is OFF


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("workers.channel.server, workers.channel.client, workers.fake_engine", "opentelemetry"),
        # Redis' client imports a part of it, where it is there, and never the exporter.
        ("orchestrator.site, orchestrator.gateway", "opentelemetry.exporter"),
    ],
)
def test_off_imports_nothing_of_opentelemetry(modules: str, unwanted: str) -> None:
    code = (
        f"import sys; import {modules}\n"
        "from workers.tracing.settings import TraceSettings, open_tracing\n"
        "open_tracing(TraceSettings(), 'coe', {})\n"
        f"print([name for name in sys.modules if name.startswith(('{unwanted}', 'workers.tracing.otlp'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


def test_spans_reach_the_collector_with_their_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", FAST)
        span = tracing.request("POST /x", TRACEPARENT, {names.HTTP_METHOD: "POST", "none": None})
        span.child("below", attributes={names.EXPERTS: ("a", "b"), "f": 0.5, "t": True}).end()
        span.fail("deadline")
        span.end()
        top, below = own.trace(TRACE, 2)
        tracing.close()
    assert (top.name, top.kind, top.parent, top.service, top.failed) == ("POST /x", "server", ABOVE, "coe-test", True)
    assert top.attributes == {names.HTTP_METHOD: "POST", names.ERROR_TYPE: "deadline"}
    assert (below.parent, below.attributes) == (top.span, {names.EXPERTS: ["a", "b"], "f": 0.5, "t": True})
    assert not below.failed


def test_headers_for_the_collector_come_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=hunter2")
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", FAST)
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        tracing.close()
    assert own.headers[0]["x-token"] == "hunter2"


def test_what_has_ended_is_sent_at_the_end() -> None:
    with collector() as own:
        tracing = open_tracing(TraceSettings(own.url), "coe-test", {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
        for _ in range(3):
            tracing.request("POST /x", "").end()
        tracing.close(within=60)
        assert len(own.spans) == 3


def test_the_caller_decides_whether_its_trace_is_recorded() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 0.0, FAST)
        assert tracing.request("POST /x", TRACEPARENT).is_on
        declined = tracing.request("POST /x", f"00-{TRACE}-{ABOVE}-00")
        unsampled = tracing.request("POST /x", "")
        assert isinstance(declined, NoSpan)
        assert declined.traceparent.startswith(f"00-{TRACE}-")
        assert declined.traceparent.endswith("-00")
        assert isinstance(unsampled, NoSpan)
        assert tracing.follow(declined.traceparent, "engine") is NO_SPAN
        assert tracing.follow("nonsense", "engine") is NO_SPAN
        tracing.close()
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 1.0, FAST)
        assert tracing.request("POST /x", "").is_on
        tracing.close()


def test_a_share_of_traces_is_recorded() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", 0.25, FAST)
        recorded = sum(tracing.request("POST /x", "").is_on for _ in range(2000))
        tracing.close()
    assert 350 < recorded < 650  # 8 standard deviations


def test_a_collector_that_is_away_costs_spans_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    tracing = OtlpTracing("http://127.0.0.1:1/v1/traces", "coe", None, {**FAST, "OTEL_BSP_MAX_QUEUE_SIZE": "10"})
    for _ in range(1000):
        tracing.request("POST /x", "").end()
    tracing.close(within=0.2)
    assert tracing.lost == 1000
    told = [record.getMessage() for record in caplog.records]
    assert sum("no way to the collector" in line for line in told) <= 1


def test_a_collector_that_refuses_is_told_once_and_again_when_it_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    with collector() as own:
        own.status = 400
        tracing = open_tracing(TraceSettings(own.url), "coe", FAST)
        assert isinstance(tracing, OtlpTracing)
        for _ in range(2):
            seen = len(own.headers)
            tracing.request("POST /x", TRACEPARENT).end()
            with own.news:
                assert own.news.wait_for(lambda seen=seen: len(own.headers) > seen, 60)  # type: ignore[misc]
        own.status = 200
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        tracing.close()
    told = [record.getMessage() for record in caplog.records if record.name == "workers.tracing.shipping"]
    assert told == [
        "traces are lost: the collector answers 400 Bad Request",
        "traces are taken again; 2 spans were lost",
    ]


def _exporters() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [own for own in found if "workers.tracing.exporter" in own.cmdline()]


def test_an_exporter_that_dies_costs_what_it_had_and_another_one_takes_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "50"})
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 1)
        [first] = _exporters()
        first.kill()
        while tracing.lost == 0:  # what is written to a process that is no more; a deadline is pytest's
            tracing.request("POST /x", "").end()
            time.sleep(0.06)
        tracing.request("POST /x", TRACEPARENT).end()
        own.trace(TRACE, 2)
        [second] = _exporters()
        tracing.close()
    assert second.pid != first.pid
    assert not second.is_running()
    assert f"traces are lost: {GONE}" in [record.getMessage() for record in caplog.records]


def test_an_address_that_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    tracing = OtlpTracing("localhost:4318/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    tracing.request("POST /x", "").end()
    tracing.close(within=60)
    assert tracing.lost == 1
    assert "no way to the collector: InvalidSchema" in caplog.text


def test_no_span_is_lost_or_sent_twice_however_many_come_at_once() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, FAST)
        for number in range(2000):
            tracing.request("POST /x", "", {"number": number}).end()
        tracing.close(within=60)
        assert tracing.lost == 0
        assert [span.attributes["number"] for span in own.spans] == list(range(2000))


def test_what_comes_while_a_batch_is_on_its_way_is_sent_at_the_end_too() -> None:
    with collector() as own:
        tracing = OtlpTracing(f"{own.url}/v1/traces", "coe", None, FAST)
        own.holds.set()
        tracing.request("POST /x", TRACEPARENT).end()
        with own.news:
            assert own.news.wait_for(lambda: own.held, 60)
        for _ in range(40):
            tracing.request("POST /x", TRACEPARENT).end()
        closing = threading.Thread(target=tracing.close, args=(60,))
        closing.start()
        own.holds.clear()
        with own.news:
            own.news.notify_all()
        closing.join()
        assert (len(own.spans), tracing.lost) == (41, 0)


def test_spans_that_wait_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.tracing.shipping.MOST_BYTES", 110_000)
    tracing = OtlpTracing("http://127.0.0.1:1/v1/traces", "coe", None, {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    for number in range(10 * BUNDLE):
        tracing.request("POST /x", "", {"text": f"{number:1000}"}).end()
    assert tracing.lost == 6 * BUNDLE  # 32 kB each: four of them are too much for a fifth
    tracing.close(within=0)


def test_content_is_cut_and_the_last_messages_stay() -> None:
    given = [{"role": "user", "content": f"{number} " + "x" * 9000} for number in range(20)]
    told = [part["parts"][0]["content"] for part in json.loads(messages_in(given))]
    assert [text.split()[0] for text in told] == [str(number) for number in range(12, 20)]
    assert {len(text) for text in told} == {8192}


def test_the_callers_fault_is_an_attribute_and_no_error() -> None:
    kept = Kept()
    span = Span(kept, "POST /", "server", 7, 0, None)
    span.fail("rate_limit_exceeded")
    span.excuse()
    span.end()
    assert (span.error, span.attributes) == (None, {names.ERROR_TYPE: "rate_limit_exceeded"})


def test_a_span_is_sent_with_all_that_it_has() -> None:
    kept = Kept()
    values: dict[str, Value | None] = {
        "text": "naïve \u2192 \U0001f600",
        "empty": "",
        "no": False,
        "yes": True,
        "one": 1,
        "zero": 0,
        "double": 0.1,
        "list": ("a", "b"),
        names.REQUEST_ID: "req-1",
        "none": None,
    }
    span = Span(kept, "a name", "client", 2**127 + 5, 2**63 + 9, values, began=2**60, remote=True)
    span.fail("why")
    span.end(2**60 + 7)
    below = Span(kept, "below", "internal", 5, 0, None, began=1)
    below.end(2)
    body = request({"service.name": "coe", "process.pid": 7}, [Fields._make(fields(span)) for span in kept.spans])
    read = ExportTraceServiceRequest.FromString(body)
    [resource] = read.resource_spans
    [scope] = resource.scope_spans
    assert scope.scope.name == SCOPE
    assert [own.flags for own in scope.spans] == [0x301, 0x101]
    first, second = spans_of(body)
    assert (first.name, first.kind, first.began, first.ended, first.failed) == (
        "a name",
        "client",
        2**60,
        2**60 + 7,
        True,
    )
    assert (first.trace, first.span, first.parent) == (
        f"{2**127 + 5:032x}",
        f"{span.span_id:016x}",
        f"{2**63 + 9:016x}",
    )
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    del wanted["none"]
    assert first.attributes == wanted | {names.ERROR_TYPE: "why"}
    assert [type(first.attributes[name]) for name in ("yes", "one", "no", "zero")] == [bool, int, bool, int]
    assert (second.parent, second.kind, second.attributes, second.failed) == ("", "internal", {}, False)
    assert (first.service, first.process) == ("coe", 7)


def test_the_exporter_sends_bytes_by_what_ours_calls() -> None:
    import inspect

    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    assert "self._client.export(serialized_data)" in inspect.getsource(trace_exporter.OTLPSpanExporter.export)


def test_names_are_those_of_the_semantic_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
    from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes

    standard = {
        value
        for module in (gen_ai, error_attributes, http_attributes, url_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    own = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}
    assert len(own) > 20
    assert {name for name in own if not name.startswith("coe.")} <= standard
    operations = {operation.value for operation in gen_ai.GenAiOperationNameValues}
    assert {names.CHAT, names.COMPLETION} <= operations


def test_the_page_lists_every_attribute() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()
    own = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}
    listed = set(re.findall(r"`((?:coe|gen_ai|http|url|error)\.[a-z_.]+)`", page.partition("| attribute |")[2]))
    assert listed == own
