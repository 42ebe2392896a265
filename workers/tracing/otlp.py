"""The one place that knows OpenTelemetry's SDK: spans go to a collector, by OTLP over HTTP with protobuf.

Requests record plain `Span`s. A thread writes and sends them, some hundred at a time. A collector that is away, or
slow, costs spans and nothing else: what finds the queue full is dropped and counted.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from workers.tracing.spans import NO_SPAN, AnySpan, Attributes, NoSpan, Parent, Span, Value, new_id, traceparent
from workers.tracing.wire import request

SCOPE = "coe"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

logger = logging.getLogger(__name__)


class OtlpTracing:
    """Implements `workers.tracing.spans.Tracing`. lost: spans that did not reach the collector.

    The standard variables hold: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, and
    OTEL_EXPORTER_OTLP_* (headers, certificates, compression, timeout).
    """

    def __init__(
        self,
        url: str,
        service: str,
        sample: float | None,
        environment: Mapping[str, str],
        *,
        content: bool = False,
    ) -> None:
        self.url, self.content = url, content
        # Its complaints are told by `_Shipping`, once and not with each batch.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._sampler = _sampler(sample)
        self._shipping = _Shipping(
            _Exporter(endpoint=url),
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
        return Span(
            self._shipping, name, "server", trace_id, above, attributes, remote=bool(above), content=self.content
        )

    def follow(self, traceparent: str, name: str, attributes: Attributes | None = None) -> AnySpan:
        parent = Parent.of(traceparent)
        if parent is None or not parent.sampled:
            return NO_SPAN
        return Span(self._shipping, name, "server", parent.trace_id, parent.span_id, attributes, remote=True)

    def close(self, within: float = 2.0) -> None:
        self._shipping.close(within)

    def _is_sampled(self, parent: Parent | None, trace_id: int, name: str) -> bool:
        if self._sampler is DEFAULT_ON:
            return parent is None or parent.sampled
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
        return DEFAULT_ON if sample == 1 else ParentBasedTraceIdRatio(sample)
    return TracerProvider(shutdown_on_exit=False).sampler


def _resource(service: str, environment: Mapping[str, str]) -> dict[str, Value]:
    attributes: dict[str, str | int] = {"process.pid": os.getpid()}
    named = "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not environment.get("OTEL_SERVICE_NAME") and not named:
        attributes["service.name"] = service
    found = Resource.create(attributes).attributes
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number above 0 of the environment; anything else is as none."""
    text = environment.get(name, "").strip()
    return int(text) if text.isdecimal() and int(text) else default


class _Exporter(OTLPSpanExporter):
    """The SDK's, for requests that are written already; tests/workers/test_tracing.py holds what it relies on."""

    def send(self, body: bytes) -> bool:
        """Has the collector taken it? Tries again for as long as OTEL_EXPORTER_OTLP_TIMEOUT says."""
        return self._client.export(body).success


class _Shipping:
    """Sends spans from a thread of its own: after `delay` seconds, or when a batch is full."""

    def __init__(
        self, exporter: _Exporter, resource: Mapping[str, Value], *, delay: float, queue: int, batch: int
    ) -> None:
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
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # breaks off a try that is under way
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
                sent = self._exporter.send(request(self._resource, SCOPE, spans))
                why = None if sent else "the collector does not take them"
            except Exception as error:  # a fault of a library must not end the thread
                why = type(error).__name__
            if why is not None:
                self.lost += len(spans)
                if not self._away:
                    logger.warning("traces are lost: %s", why)
            elif self._away:
                logger.warning("traces are taken again; %d spans were lost", self.lost)
            self._away = why is not None
