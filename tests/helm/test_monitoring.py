"""Alerts and dashboard ask for metrics that the service has, in words that Prometheus reads."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import TABLE
from orchestrator.metrics import Metrics
from tests.helm.chart import case, one
from tests.helm.tools import PROMQL
from workers.base import Usage, WorkerStats

OTHERS = {"up"}
"""Metrics that Prometheus makes itself."""


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL)"""
    for group in one(case("ha"), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def dashboard() -> dict[str, Any]:
    data = one(case("ha"), "ConfigMap", "coe-dashboard")["data"]
    found: dict[str, Any] = json.loads(data["coe.json"])
    return found


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Name of each sample that /metrics has -> its labels."""
    metrics = Metrics()
    metrics.requests.labels("a", "auto", "ok").inc()
    metrics.errors.labels("internal").inc()
    metrics.refused.labels("door").inc()
    metrics.seconds.labels("a").observe(1)
    metrics.first_token.labels("a").observe(1)
    metrics.count_usage("a", Usage(1, 1, 1))
    stats = WorkerStats("f", {"a": "device"}, loads={"disk": 1}, moved_bytes={"disk": 1}, moved_seconds={"disk": 1.0},
                        tier_bytes={"device": 1}, request_seconds={"queue": 1.0})  # fmt: skip
    found: dict[str, set[str]] = {}
    for line in metrics.render({"f": stats}).decode().splitlines():
        if match := re.match(r"([a-z_]+)(?:\{([^}]*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'([a-z_]+)="', match[2] or ""))
    return found


def test_a_query_asks_for_metrics_and_labels_that_there_are(samples: dict[str, set[str]]) -> None:
    for where, query in queries():
        named = set(re.findall(r"\b(coe_\w+|up)\b(?=\{)", query))
        assert named, where
        assert named <= samples.keys() | OTHERS, where
        labels = set(re.findall(r'([a-z_]+)(?:=~|!~|!=|=)"', query))
        for by in re.findall(r"by \(([^)]*)\)", query):
            labels |= {label.strip() for label in by.split(",")}
        assert labels <= {"namespace", "job"}.union(*(samples.get(name, set()) for name in named)), where


def test_prometheus_reads_every_query() -> None:
    """By a parser of its language. The dashboard's variables are text for it."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import promql_parser\n"
        "for where, query in json.load(sys.stdin):\n"
        "    try: promql_parser.parse(query)\n"
        "    except Exception as error: print(where, error)\n"
    )

    def told(them: list[tuple[str, str]]) -> str:
        command = [sys.executable, "-c", code, str(PROMQL.fetched())]
        return subprocess.run(command, input=json.dumps(them), capture_output=True, text=True, check=True).stdout

    assert told([*queries()]) == ""
    assert told([("bad", "sum by (a) (rate(x[5m])")]).startswith("bad ")


def test_what_alerts_call_a_fault_is_what_the_service_answers_with_a_5xx() -> None:
    [faults] = re.findall(r'outcome=~\\"([^"\\]*)\\"', json.dumps(one(case("ha"), "PrometheusRule")))
    assert set(faults.split("|")) == {cause for cause, row in TABLE.items() if row.status >= 500}


def test_reasons_of_refusals_that_alerts_name_exist() -> None:
    [reasons] = re.findall(r'reason=~\\"([^"\\]*)\\"', json.dumps(one(case("ha"), "PrometheusRule")))
    refusals = next(metric for metric in Metrics().registry.collect() if metric.name == "coe_refusals").documentation
    assert all(reason in refusals for reason in reasons.split("|"))


def test_every_alert_says_what_to_do() -> None:
    for group in one(case("ha"), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_monitor_finds_the_gateways_service_alone() -> None:
    objects = case("everything")
    selector = one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    services = [own["metadata"] for own in objects if own["kind"] == "Service"]
    found = [own["name"] for own in services if selector.items() <= own["labels"].items()]
    assert found == ["coe"]
    ports = {port["name"] for port in one(objects, "Service", "coe")["spec"]["ports"]}
    assert {own["port"] for own in one(objects, "ServiceMonitor")["spec"]["endpoints"]} <= ports
