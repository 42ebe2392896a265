"""The Grafana dashboards of the chart, as code: `python -m helm.dashboards` writes them anew, and docs/metrics.md.

Every gateway tells the state of all workers, so of what workers count the greatest value holds, not the sum.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "coe" / "files" / "dashboards"
WIDTH, HEIGHT, ACROSS = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OWN = 'namespace="$namespace", job="$service"'
_METRIC = re.compile(r"\b(coe_[a-z_]+)(?:\{([^}]*)\})?")


def _chosen(metric: re.Match[str]) -> str:
    """Of the namespace and the service that are looked at."""
    own = f"{_OWN}, {metric[2]}" if metric[2] else _OWN
    return f"{metric[1]}{{{own}}}"


@dataclass(frozen=True, slots=True)
class Panel:
    """targets: (PromQL, legend), to whose metrics the namespace and the service are added. unit: Grafana's. stacked: as
    areas."""

    title: str
    unit: str
    targets: tuple[tuple[str, str], ...]
    description: str = ""
    stacked: bool = False

    @property
    def queries(self) -> list[str]:
        return [_METRIC.sub(_chosen, query) for query, _ in self.targets]


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    title: str
    panels: tuple[Panel, ...]


def _panel(title: str, unit: str, *targets: str, description: str = "", stacked: bool = False) -> Panel:
    """targets: each "PromQL => legend"."""
    pairs = [target.rpartition("=> ") for target in targets]
    return Panel(title, unit, tuple((query.strip(), legend) for query, _, legend in pairs), description, stacked)


def _quantiles(metric: str, by: str = "") -> tuple[str, ...]:
    """The median and 95 % of a histogram."""
    inner = f"sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket[5m]))"
    legend = f"{{{{{by}}}}} " if by else ""
    return tuple(f"histogram_quantile({share}, {inner}) => {legend}{name}" for share, name in _SHARES)


_SHARES = ((0.5, "median"), (0.95, "95 %"))
_REQUESTS = "sum(rate(coe_request_seconds_count[5m]))"
_TO_EXPERTS = 'coe_requests_total{route=~"auto|ensemble|named"}'

OVERVIEW = Dashboard(
    "overview",
    "Composition of Experts",
    (
        _panel("Requests by outcome", "reqps", "sum by (outcome) (rate(coe_requests_total[5m])) => {{outcome}}"),
        _panel("Requests by route", "reqps", "sum by (route) (rate(coe_requests_total[5m])) => {{route}}"),
        _panel("Turned away", "reqps", "sum by (reason) (rate(coe_refusals_total[5m])) => {{reason}}"),
        _panel("Errors answered", "reqps", "sum by (cause) (rate(coe_errors_total[5m])) => {{cause}}"),
        _panel("First token", "s", *_quantiles("coe_first_token_seconds")),
        _panel("Whole answer", "s", *_quantiles("coe_request_seconds")),
        _panel(
            "Where a request's time goes",
            "s",
            f"sum(rate(coe_admission_seconds_sum[5m])) / {_REQUESTS} => admission",
            f"sum(rate(coe_router_seconds_sum[5m])) / {_REQUESTS} => router",
            f"sum by (phase) (rate(coe_call_seconds_sum[5m])) / on () group_left () {_REQUESTS} => {{{{phase}}}}",
            f"sum(rate(coe_aggregation_seconds_sum[5m])) / {_REQUESTS} => aggregation",
            description="Mean seconds a request. Calls of an ensemble run side by side, so their phases may sum to "
            "more than the request took.",
            stacked=True,
        ),
        _panel("Between two tokens", "s", *_quantiles("coe_inter_token_seconds")),
        _panel("Tokens a second", "short", "sum by (kind) (rate(coe_tokens_total[5m])) => {{kind}}"),
        _panel(
            "In the gateways", "short", "sum(coe_requests_in_flight) => running", "sum(coe_requests_waiting) => waiting"
        ),
        _panel("Families whose workers answer", "short", "max by (family) (coe_worker_up) => {{family}}"),
        _panel(
            "Workers",
            "short",
            "max by (family) (coe_workers) => {{family}}",
            "max by (family) (coe_workers_wanted) => {{family}} wanted",
        ),
        _panel(
            "Without Redis",
            "reqps",
            "sum(rate(coe_unlimited_total[5m])) => requests without limits",
            "sum(rate(coe_settlements_lost_total[5m])) => use not counted",
            "sum(rate(coe_decision_records_lost_total[5m])) => records lost",
        ),
        _panel(
            "Spans that no collector took",
            "short",
            "sum(increase(coe_trace_spans_lost_total[$__rate_interval])) => gateways",
            "max by (family) (increase(coe_worker_spans_lost_total[$__rate_interval])) => workers of {{family}}",
        ),
        _panel(
            "Batches",
            "short",
            "max by (status) (coe_batch_jobs) => {{status}}",
            "sum by (status) (increase(coe_batch_jobs_ended_total[1h])) => {{status}} in the last hour",
        ),
        _panel(
            "Lines of batches",
            "reqps",
            "sum by (outcome) (rate(coe_batch_lines_total[5m])) => {{outcome}}",
            "sum by (what) (rate(coe_batch_dead_letters_total[5m])) => given up: {{what}}",
        ),
        _panel(
            "Work on batches",
            "short",
            "sum(coe_batch_blocks) => blocks under way",
            "histogram_quantile(0.95, sum by (le) (rate(coe_batch_planning_seconds_bucket[1h]))) "
            "=> seconds of planning, 95 %",
        ),
    ),
)

EXPERTS = Dashboard(
    "experts",
    "Composition of Experts: experts and swaps",
    (
        _panel("Requests by expert", "reqps", f"sum by (expert) (rate({_TO_EXPERTS}[5m])) => {{{{expert}}}}"),
        _panel("First token by expert, 95 %", "s", _quantiles("coe_first_token_seconds", "expert")[1]),
        _panel("Between two tokens by expert, 95 %", "s", _quantiles("coe_inter_token_seconds", "expert")[1]),
        _panel("Whole answer by expert, 95 %", "s", _quantiles("coe_request_seconds", "expert")[1]),
        _panel(
            "Phases of calls, 95 %",
            "s",
            "histogram_quantile(0.95, sum by (phase, le) (rate(coe_call_seconds_bucket[5m]))) => {{phase}}",
        ),
        _panel(
            "Waiting in the engine by expert, 95 %",
            "s",
            'histogram_quantile(0.95, sum by (expert, le) (rate(coe_call_seconds_bucket{phase="queue"}[5m]))) '
            "=> {{expert}}",
        ),
        _panel("In the engines, by expert", "short", "max by (expert) (coe_expert_queued) => {{expert}}"),
        _panel(
            "In the engines, by family",
            "short",
            "max by (family) (coe_worker_running) => {{family}} running",
            "max by (family) (coe_worker_waiting) => {{family}} waiting",
        ),
        _panel("Longest wait for a turn", "s", "max by (family) (coe_oldest_wait_seconds) => {{family}}"),
        _panel("Who computes", "short", "max by (family, expert) (coe_expert_active) => {{family}} {{expert}}"),
        _panel("Swaps a second", "short", "max by (family) (rate(coe_swaps_total[5m])) => {{family}}"),
        _panel(
            "Share of time in swaps",
            "percentunit",
            "max by (family) (rate(coe_swap_seconds_total[5m]) / avg_over_time(coe_workers[5m])) => {{family}}",
            description="Mean of the family's workers.",
        ),
        _panel(
            "Swaps to an image that was there",
            "percentunit",
            "max by (family) (rate(coe_swap_hits_total[5m])) / max by (family) (rate(coe_swaps_total[5m])) "
            "=> {{family}}",
        ),
        _panel(
            "Speed of moving images",
            "Bps",
            "max by (family, source) (rate(coe_image_moved_bytes_total[5m])) "
            "/ max by (family, source) (rate(coe_image_moved_seconds_total[5m])) => {{family}} from {{source}}",
        ),
        _panel(
            "Images loaded by the tier they came from",
            "short",
            "max by (family, source) (rate(coe_image_loads_total[5m])) => {{family}} from {{source}}",
        ),
        _panel("Memory of images", "bytes", "max by (family, tier) (coe_image_bytes) => {{family}} {{tier}}"),
        _panel(
            "Experts by tier", "short", "count by (tier) (max by (expert, tier) (coe_expert_tier) == 1) => {{tier}}"
        ),
        _panel(
            "Prefetches that were of use",
            "percentunit",
            "max by (family) (rate(coe_prefetches_used_total[15m])) "
            "/ max by (family) (rate(coe_prefetches_total[15m])) => {{family}}",
        ),
        _panel(
            "Requests' time in the engine",
            "short",
            "max by (family, part) (rate(coe_engine_request_seconds_total[5m])) => {{family}} {{part}}",
            description="Seconds a second, of finished requests.",
        ),
        _panel(
            "Families woken",
            "short",
            "max by (family) (rate(coe_wakes_total[15m])) => {{family}} wakes a second",
            "max by (family) (rate(coe_wake_seconds_total[15m]) / avg_over_time(coe_workers[15m])) "
            "=> {{family}} share of time",
        ),
        _panel(
            "Engines started anew", "short", "max by (family) (increase(coe_worker_restarts_total[1h])) => {{family}}"
        ),
        _panel(
            "Circuits of remote experts",
            "short",
            "max by (expert) (coe_expert_circuit) => {{expert}}",
            description="0 closed, 1 half open, 2 open.",
        ),
    ),
)

ROUTING = Dashboard(
    "routing",
    "Composition of Experts: routing quality",
    (
        _panel("Decisions by category", "reqps", "sum by (category) (rate(coe_routed_total[5m])) => {{category}}"),
        _panel("Decisions by router", "reqps", "sum by (router) (rate(coe_routed_total[5m])) => {{router}}"),
        _panel("Time of a decision", "s", *_quantiles("coe_router_seconds")),
        _panel(
            "Margin of the best category",
            "percentunit",
            "histogram_quantile(0.1, sum by (router, le) (rate(coe_route_margin_bucket[15m]))) => {{router}} 10 %",
            "histogram_quantile(0.5, sum by (router, le) (rate(coe_route_margin_bucket[15m]))) => {{router}} median",
            description="A margin that falls says that prompts come which the router was not fitted on.",
        ),
        _panel(
            "What users said, by expert",
            "percentunit",
            "sum by (expert) (rate(coe_feedback_score_sum[1h])) / sum by (expert) (rate(coe_feedback_score_count[1h])) "
            "=> {{expert}}",
            description="Mean score of the last hour.",
        ),
        _panel(
            "Answers that users judged",
            "short",
            "sum by (expert) (increase(coe_feedback_score_count[1h])) => {{expert}}",
        ),
        _panel(
            "Who answers for auto",
            "reqps",
            'sum by (expert) (rate(coe_requests_total{route="auto"}[5m])) => {{expert}}',
        ),
        _panel("Calls by role", "reqps", "sum by (role) (rate(coe_calls_total[5m])) => {{role}}"),
        _panel("Calls by outcome", "reqps", "sum by (outcome) (rate(coe_calls_total[5m])) => {{outcome}}"),
        _panel(
            "Calls a request",
            "short",
            f"sum(rate(coe_calls_total[5m])) / sum(rate({_TO_EXPERTS}[5m])) => calls",
        ),
        _panel("Aggregation", "s", *_quantiles("coe_aggregation_seconds", "aggregator")),
    ),
)

KEYS = Dashboard(
    "keys",
    "Composition of Experts: keys and cost",
    (
        _panel(
            "Requests by class of the key",
            "reqps",
            "sum by (key_class) (rate(coe_requests_total[5m])) => {{key_class}}",
        ),
        _panel(
            "Without an answer, by class of the key",
            "percentunit",
            # A class that had no answer yet has no series of them.
            '1 - (sum by (key_class) (rate(coe_requests_total{outcome=~"ok|routed"}[5m])) '
            "or 0 * sum by (key_class) (rate(coe_requests_total[5m]))) "
            "/ sum by (key_class) (rate(coe_requests_total[5m])) => {{key_class}}",
        ),
        _panel("Waiting for admission, 95 %", "s", _quantiles("coe_admission_seconds", "key_class")[1]),
        _panel(
            "Tokens a second by class of the key",
            "short",
            "sum by (key_class, kind) (rate(coe_tokens_total[5m])) => {{key_class}} {{kind}}",
        ),
        _panel("Tokens a second by expert", "short", "sum by (expert) (rate(coe_tokens_total[5m])) => {{expert}}"),
        _panel(
            "Prompt tokens that were computed before",
            "percentunit",
            'sum by (expert) (rate(coe_tokens_total{kind="cached"}[5m])) '
            '/ sum by (expert) (rate(coe_tokens_total{kind="prompt"}[5m])) => {{expert}}',
        ),
        _panel(
            "Cost an hour, by expert",
            "currencyUSD",
            "3600 * sum by (expert) (rate(coe_cost_usd_total[15m])) => {{expert}}",
        ),
        _panel(
            "Cost an hour, by class of the key",
            "currencyUSD",
            "3600 * sum by (key_class) (rate(coe_cost_usd_total[15m])) => {{key_class}}",
        ),
        _panel(
            "Cost of a thousand requests, by route",
            "currencyUSD",
            "1000 * sum by (route) (rate(coe_cost_usd_total[15m])) / sum by (route) (rate(coe_requests_total[15m])) "
            "=> {{route}}",
        ),
        _panel("Refused for limits and load", "reqps", "sum by (reason) (rate(coe_refusals_total[5m])) => {{reason}}"),
    ),
)

DASHBOARDS = (OVERVIEW, EXPERTS, ROUTING, KEYS)


def document(own: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "title": own.title,
        "uid": f"coe-{own.name}",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "tags": ["coe"],
        "timezone": "",
        "links": [{"type": "dashboards", "title": "Others", "tags": ["coe"], "asDropdown": True, "keepTime": True}],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _variable("namespace", "Namespace", "label_values(coe_requests_in_flight, namespace)"),
                _variable("service", "Service", 'label_values(coe_requests_in_flight{namespace="$namespace"}, job)'),
            ]
        },
        "annotations": {"list": []},
        "panels": [_shown(place, panel) for place, panel in enumerate(own.panels)],
    }


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    of = {"query": query, "refId": "A"}
    return {"name": name, "type": "query", "datasource": _SOURCE, "query": of, "refresh": 2, "label": label}


def _shown(place: int, panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 30}
    return {
        "id": place + 1,
        "title": panel.title,
        "description": panel.description,
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": {"x": place % ACROSS * WIDTH, "y": place // ACROSS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (query, (_, legend)) in enumerate(zip(panel.queries, panel.targets, strict=True))
        ],
    }


def files() -> Iterator[tuple[Path, str]]:
    """Each file and what stands in it."""
    for own in DASHBOARDS:
        yield FOLDER / f"{own.name}.json", json.dumps(document(own), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    from helm.metrics_page import PATH, page

    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, content in (*files(), (PATH, page())):
        path.write_text(content)
        print(path)
