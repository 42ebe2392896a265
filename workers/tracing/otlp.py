"""Traces that go to a collector of OpenTelemetry: which requests are recorded is for the samplers of its SDK."""

import os
from collections.abc import Mapping

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from workers.tracing.shipping import Shipping
from workers.tracing.spans import NO_SPAN, AnySpan, Attributes, NoSpan, Parent, Span, new_id, traceparent

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpTracing:
    """Implements `workers.tracing.spans.Tracing`. lost: spans that did not reach the collector.

    The standard variables hold: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
    OTEL_BSP_SCHEDULE_DELAY, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_EXPORT_BATCH_SIZE, and OTEL_EXPORTER_OTLP_* (headers,
    certificates, compression, timeout).
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
        self._sampler = _sampler(sample)
        self._shipping = Shipping(
            url,
            service,
            environment,
            delay=_whole(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
            most=_whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 4096),
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

    def follow(
        self, traceparent: str, name: str, attributes: Attributes | None = None, began: int | None = None
    ) -> AnySpan:
        parent = Parent.of(traceparent)
        if parent is None or not parent.sampled:
            return NO_SPAN
        return Span(self._shipping, name, "server", parent.trace_id, parent.span_id, attributes, began, remote=True)

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
    if os.environ.get("OTEL_TRACES_SAMPLER", "").strip():
        return TracerProvider(shutdown_on_exit=False).sampler
    return DEFAULT_ON if sample is None or sample == 1 else ParentBasedTraceIdRatio(sample)


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number above 0 of the environment; anything else is as none."""
    text = environment.get(name, "").strip()
    return int(text) if text.isdecimal() and int(text) else default
