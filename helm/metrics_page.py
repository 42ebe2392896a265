"""docs/metrics.md, made of the metrics, the dashboards and the alerts; `python -m helm.dashboards` writes it anew."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from helm.dashboards import DASHBOARDS
from orchestrator.metrics import Metrics

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "metrics.md"
RULES = ROOT / "helm" / "coe" / "files" / "rules.yaml"
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as /metrics has it: a counter's name ends in _total."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    severity: str
    metrics: frozenset[str]
    summary: str
    action: str


def described() -> Iterator[Described]:
    """Every metric of the service, in the order of `orchestrator.metrics`."""
    registry: Any = Metrics().registry
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            own: Any = collector
            yield _described(own._name, own._type, own._labelnames, own._documentation)
        else:
            for family in collector.collect():
                yield _described(family.name, family.type, family._labelnames, family.documentation)


def _described(name: str, kind: str, labels: Any, meaning: str) -> Described:
    return Described(name + ("_total" if kind == "counter" else ""), kind, tuple(labels), meaning)


def metrics_in(query: str) -> set[str]:
    """The service's metrics that a query asks for, under their names in `described`."""
    histograms = {own.name for own in described() if own.kind == "histogram"}
    named = set(re.findall(r"\bcoe_[a-z_]+", query))
    return {plain if (plain := _SUFFIX.sub("", name)) in histograms else name for name in named}


def alerts() -> list[Alert]:
    """Those of the chart, read from its template."""
    found = []
    for text in RULES.read_text().split("- alert: ")[1:]:
        told = {key: _plain(value) for key, value in re.findall(r"^ +(summary|action): (.*)$", text, re.MULTILINE)}
        [severity] = re.findall(r"severity: (\w+)", text)
        query = text.partition("expr: ")[2].partition("labels: ")[0]
        name = text.partition("\n")[0]
        found.append(Alert(name, severity, frozenset(metrics_in(query)), told["summary"], told["action"]))
    return found


def _plain(text: str) -> str:
    """Without the template's braces and the quotes of YAML."""
    text = re.sub(r'\{\{ "\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}" \}\}', r"*\1*", text)
    return text.strip('"')


def seen_in() -> dict[str, list[str]]:
    """Metric -> the dashboards and alerts that show it."""
    found: dict[str, list[str]] = {}
    for dashboard in DASHBOARDS:
        named = set().union(*(metrics_in(query) for panel in dashboard.panels for query in panel.queries))
        for name in named:
            found.setdefault(name, []).append(dashboard.name)
    for alert in alerts():
        for name in alert.metrics:
            found.setdefault(name, []).append(alert.name)
    return found


def page() -> str:
    where = seen_in()
    rows = [
        f"| `{own.name}` | {own.kind} | {', '.join(f'`{label}`' for label in own.labels)} | {own.meaning} "
        f"| {', '.join(where.get(own.name, ()))} |"
        for own in described()
    ]
    told = [f"| {own.name} | {own.severity} | {own.summary} | {own.action} |" for own in alerts()]
    return _PAGE.format(metrics="\n".join(rows), alerts="\n".join(told))


_PAGE = """# Metrics

`GET /metrics` of a gateway, without a key, in the format of Prometheus. A gateway counts its own requests, and tells
the state of all workers: of what workers count, take the greatest value over gateways, not the sum. Labels are
bounded: `expert` is a configured expert or `none`, `category` one that a router was fitted with, `key_class` the
priority of the key (`interactive`, `normal`, `batch`); nothing of a request becomes a label, and no key does. Use by
key is in `/admin/v1/keys/{{key}}/usage`, single requests are in the [decision records](api.md#decision-records).

On Kubernetes the chart's `monitoring` brings a ServiceMonitor, the alerts and four Grafana dashboards: **overview**,
**experts** (and swaps), **routing** (quality), **keys** (and cost). Elsewhere import the files of
[helm/coe/files/dashboards](../helm/coe/files/dashboards) into Grafana; they ask for the labels `namespace` and `job`,
which the scrape configuration must give.

This page is made by `python -m helm.dashboards`, as the dashboards are.

## The service's own

| metric | kind | labels | meaning | seen in |
|---|---|---|---|---|
{metrics}

The speed of moving images is bytes over seconds of `coe_image_moved_*`, the share of swaps to an image that was there
`coe_swap_hits_total` over `coe_swaps_total`. Errors by expert are the outcomes of `coe_requests_total` and, for each
call of an ensemble, of `coe_calls_total`.

## vLLM's and Ray's own

They are scraped where they are, and not copied. Every node of Ray (`ray start --metrics-export-port`; 8080 on
Kubernetes) has Ray's metrics, `ray_...`, and with `families.<name>.engine_metrics: true` those of the vLLM engines on
it, `ray_vllm_...`, with the label `ReplicaId`: batches, KV cache, preemptions, prefix cache, time of prefill and
decode over all experts of the engine. The chart's `monitoring.podMonitor` takes them from the pods of the Ray cluster.
For a local Ray, Prometheus finds the port in `prom_metrics_service_discovery.json` of Ray's session folder. A remote
expert's provider has its own.

## Alerts

Each with what to do first. `helm/coe/files/rules.yaml` has the queries.

| alert | severity | says | do |
|---|---|---|---|
{alerts}
"""
