"""Are there traces, and where do they go: coe.yaml and the standard variables of OpenTelemetry, which come first."""

from collections.abc import Mapping
from dataclasses import dataclass

from workers.tracing.spans import OFF, Tracing

_TRACES, _ALL = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """endpoint: of a collector, such as http://127.0.0.1:4318; None: what the environment says. sample: share of traces
    that begin here and are recorded; None: what the environment says, else all. content: prompts and answers too."""

    endpoint: str | None = None
    sample: float | None = None
    content: bool = False

    def url(self, environment: Mapping[str, str]) -> str:
        """Where spans go; "" for nowhere."""
        given = {name: value.strip() for name, value in environment.items() if value.strip()}
        if _is_off(given):
            return ""
        if own := given.get(_TRACES):
            return own
        base = given.get(_ALL) or self.endpoint
        return f"{base.rstrip('/')}/v1/traces" if base else ""


def _is_off(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return disabled or environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none"


def open_tracing(settings: TraceSettings, service: str, environment: Mapping[str, str]) -> Tracing:
    """service: the name of this process among services, where OTEL_SERVICE_NAME says no other."""
    url = settings.url(environment)
    if not url:
        return OFF
    from workers.tracing.otlp import OtlpTracing

    return OtlpTracing(url, service, settings.sample, environment, content=settings.content)


def told_tracing(url: str, service: str, environment: Mapping[str, str]) -> Tracing:
    """Of a worker, whose gateway has traces at this url. The worker's own environment comes first."""
    if _is_off(environment):
        return OFF
    from workers.tracing.otlp import OtlpTracing

    return OtlpTracing(TraceSettings().url(environment) or url, service, None, environment)
