"""Alerts and dashboard ask for metrics that the service has, in words that Prometheus reads."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from helm.dashboards import DASHBOARDS, files
from helm.metrics_page import PATH, described, page, seen_in
from orchestrator.errors import TABLE
from orchestrator.metrics import Metrics
from tests.helm.chart import case, one
from tests.helm.tools import PROMQL

OTHERS = {"up"}
"""Metrics that Prometheus makes itself."""


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL)"""
    for group in one(case("ha"), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{dashboard['title']}: {panel['title']}", target["expr"]


def dashboards() -> list[dict[str, Any]]:
    data = one(case("ha"), "ConfigMap", "coe-dashboard")["data"]
    assert [*data] == [f"coe-{own.name}.json" for own in sorted(DASHBOARDS, key=lambda own: own.name)]
    return [json.loads(text) for text in data.values()]


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Name of each sample that /metrics may have -> its labels."""
    found: dict[str, set[str]] = {}
    for own in described():
        ends = ("_bucket", "_sum", "_count") if own.kind == "histogram" else ("",)
        for end in ends:
            found[own.name + end] = {*own.labels, *(["le"] if end == "_bucket" else [])}
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
    """By a parser of its language. The dashboard's variables are text for it, and Grafana gives the interval."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import promql_parser\n"
        "for where, query in json.load(sys.stdin):\n"
        "    try: promql_parser.parse(query)\n"
        "    except Exception as error: print(where, error)\n"
    )

    def told(them: list[tuple[str, str]]) -> str:
        command = [sys.executable, "-c", code, str(PROMQL.fetched())]
        return subprocess.run(command, input=json.dumps(them), capture_output=True, text=True, check=True).stdout

    assert told([(where, query.replace("$__rate_interval", "1m")) for where, query in queries()]) == ""
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


def test_the_monitor_of_pods_finds_rays_pods_alone_and_may_reach_them() -> None:
    objects = case("everything")
    selector = one(objects, "PodMonitor")["spec"]["selector"]
    [of] = [own["values"] for own in selector["matchExpressions"]]
    cluster = one(objects, "RayService")["spec"]["rayClusterConfig"]
    pods = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for pod in pods:
        labels = pod["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/component"] in of
        [port] = [own for own in pod["spec"]["containers"][0]["ports"] if own["name"] == "metrics"]
        policy = one(objects, "NetworkPolicy", "coe-ray-metrics")["spec"]
        assert [own["port"] for own in policy["ingress"][0]["ports"]] == [port["containerPort"]]


# Files that are made


def test_dashboards_and_page_are_current() -> None:
    for path, content in (*files(), (PATH, page())):
        assert path.read_text() == content, f"{path.name} is out of date: python -m helm.dashboards"


def test_no_metric_is_without_a_panel_or_an_alert() -> None:
    assert seen_in().keys() == {own.name for own in described()}


def test_panels_have_titles_of_their_own_and_do_not_overlap() -> None:
    for dashboard in dashboards():
        titles = [panel["title"] for panel in dashboard["panels"]]
        assert len(set(titles)) == len(titles)
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
        assert len(places) == len(titles)
