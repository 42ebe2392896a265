"""The sections `records` and `traces` of coe.yaml. See docs/observing.md."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from experts.spec import Frozen
from orchestrator.config.policies import Float, Int
from workers.tracing.settings import TraceSettings


class RecordsConfig(Frozen):
    """What is kept of each routed request, for `coe explain` and `/v1/routes`."""

    keep: Int = Field(10_000, ge=1, le=10**7, description="Decision records that Redis holds; the oldest go.")
    ttl_s: Float = Field(7 * 86400.0, ge=1, le=366 * 86400, description="Seconds that one is kept.")
    content: bool = Field(
        False,
        description="Keep the text that the router read as well, and the answers that were voted for: "
        "`coe router export` then has prompts to fit on. Off, no word of prompt or answer is stored.",
    )


def _collector(url: str) -> str:
    allowed = "allowed: http://HOST:4318 or https://HOST"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"not the address of a collector; {allowed}") from None
    if not good:
        raise ValueError(f"not the address of a collector; {allowed}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"an address holds no secrets, which belong in the environment: OTEL_EXPORTER_OTLP_HEADERS; {allowed}"
        )
    return url


class TracesConfig(Frozen):
    """Traces of requests, for a collector of OpenTelemetry. The standard variables, OTEL_*, come before this."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = Field(
        None,
        description="A collector, such as http://127.0.0.1:4318, which takes OTLP over HTTP (protobuf). Default: what "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, else there are no traces.",
    )
    sample: Float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of requests that are traced, where the caller has not decided. Default: what "
        "OTEL_TRACES_SAMPLER says, else all.",
    )
    content: bool = Field(False, description="Write prompts and answers into spans.")

    @property
    def settings(self) -> TraceSettings:
        return TraceSettings(self.endpoint, self.sample, self.content)
