"""Where spans go by configuration and environment; where they go nowhere, nothing of OpenTelemetry is imported."""

import subprocess
import sys
from collections.abc import Mapping

import pytest

from workers.tracing.settings import TraceSettings, open_tracing, told_tracing
from workers.tracing.spans import OFF


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
    ("sample", "sampler", "recorded"),
    [(None, None, 40), (0.0, None, 0), (0.0, "", 0), (None, "", 40), (0.0, "always_on", 40), (1.0, "always_off", 0)],
)
def test_a_share_of_the_requests_is_traced_unless_the_environment_says_which(
    monkeypatch: pytest.MonkeyPatch, sample: float | None, sampler: str | None, recorded: int
) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    tracing = open_tracing(TraceSettings("http://127.0.0.1:1", sample), "coe", {})
    assert sum(tracing.request("POST /", "").is_on for _ in range(40)) == recorded
    tracing.close()


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
