"""The one place that knows OpenTelemetry's SDK: spans go to a collector, by OTLP over HTTP with protobuf.

Requests record plain `Span`s. A thread makes the SDK's of them and sends them, some hundred at a time. A collector that
is away, or slow, costs spans and nothing else: what finds the queue full is dropped and counted.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBasedTraceIdRatio, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from workers.tracing.names import ERROR_TYPE
from workers.tracing.spans import NO_SPAN, AnySpan, Attributes, NoSpan, Parent, Span, new_id, traceparent

SCOPE = InstrumentationScope("coe")
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

logger = logging.getLogger(__name__)


class OtlpTracing:
    """Implements `workers.tracing.spans.Tracing`. lost: spans that did not reach the collector.

    exporter: in place of the one that sends to `url`. The standard variables hold: OTEL_SERVICE_NAME,
    OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, and OTEL_EXPORTER_OTLP_* (headers, certificates,
    compression, timeout).
    """

    def __init__(
        self,
        url: str,
        service: str,
        sample: float | None,
        environment: Mapping[str, str],
        *,
        content: bool = False,
        exporter: SpanExporter | None = None,
    ) -> None:
        self.url, self.content = url, content
        # Its complaints are told by `_Shipping`, once and not with each batch.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._sampler = _sampler(sample)
        self._shipping = _Shipping(
            exporter or OTLPSpanExporter(endpoint=url),
            _resource(service, environment),
            delay=_whole(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
            queue=_whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 4096),
            batch=_whole(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        )

    @property
    def lost(self) -> int:
        return self._shipping.lost

    def request(self, name: str, traceparent: str, attributes: Attributes | None = None) -> AnySpan:
        parent = Parent.of(traceparent) if traceparent else None
        trace_id = parent.trace_id if parent else new_id(16)
        if not self._is_sampled(parent, trace_id, name):
            return _unsampled(trace_id)
        above = parent.span_id if parent else 0
        return Span(self._shipping, name, "server", trace_id, above, attributes, remote=True, content=self.content)

    def follow(self, traceparent: str, name: str, attributes: Attributes | None = None) -> AnySpan:
        parent = Parent.of(traceparent)
        if parent is None or not parent.sampled:
            return NO_SPAN
        return Span(self._shipping, name, "server", parent.trace_id, parent.span_id, attributes, remote=True)

    def close(self, within: float = 2.0) -> None:
        self._shipping.close(within)

    def _is_sampled(self, parent: Parent | None, trace_id: int, name: str) -> bool:
        context = None
        if parent is not None:
            flags = _SAMPLED if parent.sampled else TraceFlags(TraceFlags.DEFAULT)
            remote = SpanContext(parent.trace_id, parent.span_id, True, flags)
            context = set_span_in_context(NonRecordingSpan(remote))
        return self._sampler.should_sample(context, trace_id, name).decision is Decision.RECORD_AND_SAMPLE


def _unsampled(trace_id: int) -> NoSpan:
    return NoSpan(traceparent(trace_id, new_id(8), sampled=False))


def _sampler(sample: float | None) -> Sampler:
    """By default what the environment says, which the SDK reads itself: all, unless it says otherwise."""
    if sample is not None and "OTEL_TRACES_SAMPLER" not in os.environ:
        return ParentBasedTraceIdRatio(sample)
    return TracerProvider(shutdown_on_exit=False).sampler


def _resource(service: str, environment: Mapping[str, str]) -> Resource:
    attributes: dict[str, str | int] = {"process.pid": os.getpid()}
    named = "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not environment.get("OTEL_SERVICE_NAME") and not named:
        attributes["service.name"] = service
    return Resource.create(attributes)


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number above 0 of the environment; anything else is as none."""
    text = environment.get(name, "").strip()
    return int(text) if text.isdecimal() and int(text) else default


class _Shipping:
    """Sends spans from a thread of its own: after `delay` seconds, or when a batch is full."""

    def __init__(self, exporter: SpanExporter, resource: Resource, *, delay: float, queue: int, batch: int) -> None:
        self._exporter, self._resource, self._delay, self._batch = exporter, resource, delay, min(batch, queue)
        self._waiting: deque[Span] = deque()
        self._most = queue
        self._wake = threading.Event()
        self._closing = self._away = False
        self.lost = 0
        self._thread = threading.Thread(target=self._work, name="coe-traces", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        if len(self._waiting) >= self._most or self._closing:
            self.lost += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= self._batch and not self._wake.is_set():
            self._wake.set()

    def close(self, within: float) -> None:
        """What is not sent by then is lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(within)
        self._exporter.shutdown()  # breaks off a try that is under way
        self._thread.join(within)

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(self._delay)
            self._wake.clear()
            self._send()

    def _send(self) -> None:
        while self._waiting:
            spans = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            try:
                sent = self._exporter.export([self._readable(span) for span in spans])
                why = None if sent is SpanExportResult.SUCCESS else "the collector does not take them"
            except Exception as error:  # a fault of a library must not end the thread
                why = type(error).__name__
            if why is not None:
                self.lost += len(spans)
                if not self._away:
                    logger.warning("traces are lost: %s", why)
            elif self._away:
                logger.warning("traces are taken again; %d spans were lost", self.lost)
            self._away = why is not None

    def _readable(self, span: Span) -> ReadableSpan:
        context = SpanContext(span.trace_id, span.span_id, False, _SAMPLED)
        parent = SpanContext(span.trace_id, span.parent_id, span.remote, _SAMPLED) if span.parent_id else None
        attributes: dict[str, str | bool | int | float | Sequence[str]] = {
            name: value for name, value in span.attributes.items() if value is not None
        }
        status = Status(StatusCode.UNSET)
        if span.error is not None:
            attributes[ERROR_TYPE] = span.error
            status = Status(StatusCode.ERROR)
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=_KINDS[span.kind],
            instrumentation_scope=SCOPE,
            status=status,
            start_time=span.began,
            end_time=span.ended,
        )
