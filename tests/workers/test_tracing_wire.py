"""A span is on the wire with all that it has, and the SDK's exporter sends those bytes as they are."""

import inspect

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.otlp import spans_of
from tests.workers.tracing_parts import Kept
from workers.tracing import names
from workers.tracing.spans import Fields, Span, Value, fields
from workers.tracing.wire import SCOPE, request


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
    assert "self._client.export(serialized_data)" in inspect.getsource(trace_exporter.OTLPSpanExporter.export)
