"""What operators ask of a chart: no privilege, no secret in plain sight, no open door, no lost request."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.load import load_config
from orchestrator.deployment import WORKERS_MORE_S
from tests.helm.chart import (
    API_SERVER,
    BUNDLED,
    CASES,
    Object,
    case,
    coe_yaml,
    containers,
    one,
    ray_cluster,
    render,
    serve_config,
    templates,
)

SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|AUTH(?!_MODE)")


# Containers and pods


@pytest.mark.parametrize("name", CASES)
def test_every_container_is_confined(name: str) -> None:
    for where, container, _ in containers(case(name)):
        security = container["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["readOnlyRootFilesystem"] is True, where
        assert security["allowPrivilegeEscalation"] is False, where
        assert security["privileged"] is False, where
        assert security["capabilities"] == {"drop": ["ALL"]}, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, where


@pytest.mark.parametrize("name", CASES)
def test_every_pod_runs_as_a_user_and_without_the_api_of_kubernetes(name: str) -> None:
    for where, template in templates(case(name)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["runAsUser"] >= 1000, where
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, where
        assert spec["enableServiceLinks"] is False, where  # a Service named coe would set COE_PORT
        if name == "autoscaling" and where.endswith("/head"):
            continue  # the operator gives it an account that may scale this cluster
        assert spec["automountServiceAccountToken"] is False, where


@pytest.mark.parametrize("name", [name for name in CASES if name != "everything"])  # which has a hostPath and NFS
def test_volumes_are_of_the_kinds_that_the_restricted_standard_allows(name: str) -> None:
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for where, template in templates(case(name)):
        kinds = {kind for volume in template["spec"].get("volumes", ()) for kind in volume if kind != "name"}
        assert kinds <= allowed, where


@pytest.mark.parametrize("name", CASES)
def test_what_a_container_writes_to_is_bounded(name: str) -> None:
    for where, container, spec in containers(case(name)):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        for mount in container["volumeMounts"]:
            empty = volumes.get(mount["name"], {}).get("emptyDir")
            assert empty is None or "sizeLimit" in empty, (where, mount)
        written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert "/tmp" in written, where


@pytest.mark.parametrize("name", CASES)
def test_every_image_has_a_version(name: str) -> None:
    for where, container, _ in containers(case(name)):
        assert re.search(r"(@sha256:[0-9a-f]{64}|:[0-9][\w.-]*)$", container["image"]), (where, container["image"])


def test_a_digest_goes_before_a_tag_and_a_group_may_have_an_image_of_its_own() -> None:
    images = {where: container["image"] for where, container, _ in containers(case("everything"))}
    assert images["Deployment/coe-gateway/gateway"] == "ghcr.io/coe/coe-server@sha256:" + "1" * 64
    assert images["RayService/coe-ray/cpu/ray-worker"] == "registry.example/other@sha256:" + "0" * 64


@pytest.mark.parametrize("name", CASES)
def test_no_secret_stands_in_a_manifest(name: str) -> None:
    objects = case(name)
    assert not [own for own in objects if own["kind"] == "Secret"]
    for where, container, _ in containers(objects):
        for variable in container.get("env", ()):
            if SECRET.search(variable["name"]):
                assert "secretKeyRef" in variable.get("valueFrom", {}), (where, variable)
            elif "value" in variable and "redis://" in variable["value"]:
                assert "://:$(REDIS_PASSWORD)@" in variable["value"], (where, variable)
    options = ray_cluster(objects).get("gcsFaultToleranceOptions", {"redisPassword": {"valueFrom": {}}})
    assert options["redisPassword"].keys() == {"valueFrom"}


@pytest.mark.parametrize("name", CASES)
def test_everything_that_stays_is_probed(name: str) -> None:
    for where, container, spec in containers(case(name)):
        if spec.get("restartPolicy") == "Never" or container in spec.get("initContainers", ()):
            continue
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), where


# The network

NAMESPACE = "kubernetes.io/metadata.name"


class Network:
    """What the policies of these objects allow, as a network plug-in reads them."""

    def __init__(self, objects: list[Object]) -> None:
        self.policies = [own for own in objects if own["kind"] == "NetworkPolicy"]
        self.pods = {
            template["metadata"]["labels"]["app.kubernetes.io/component"]: template["metadata"]["labels"]
            for _, template in templates(objects)
        }

    def allows(self, source: dict[str, str], target: dict[str, str], port: int) -> bool:
        return self._one_way("Egress", source, target, port) and self._one_way("Ingress", target, source, port)

    def _one_way(self, direction: str, own: dict[str, str], other: dict[str, str], port: int) -> bool:
        rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        bound = [
            policy["spec"]
            for policy in self.policies
            if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], own)
        ]
        if not bound:
            return True
        return any(
            any(in_range(port, ports) for ports in rule["ports"]) and any(is_peer(peer, other) for peer in rule[peers])
            for spec in bound
            for rule in spec.get(rules, ())
        )


def is_peer(peer: Object, pod: dict[str, str]) -> bool:
    """Does a rule mean this pod, whose labels have its namespace too where that is another one?"""
    namespace = pod.get(NAMESPACE, "ai")
    near = selects(peer["namespaceSelector"], {NAMESPACE: namespace}) if "namespaceSelector" in peer else True
    return near and ("namespaceSelector" in peer or namespace == "ai") and selects(peer.get("podSelector", {}), pod)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(own["key"]) in own["values"] for own in selector.get("matchExpressions", ())
    )


def in_range(port: int, ports: Object) -> bool:
    first = int(ports["port"])
    return first <= port <= int(ports.get("endPort") or first)


def test_pods_reach_what_they_need_and_nothing_else() -> None:
    network = Network(case("cpu"))
    operator = {"app.kubernetes.io/name": "kuberay-operator", NAMESPACE: "kuberay"}
    outside = {
        "stranger": {"app": "somebody-elses"},
        "operator": operator,
        "impostor": {**operator, NAMESPACE: "elsewhere"},
        "neighbour": {"app": "another", NAMESPACE: "kuberay"},
    }
    parts = {**network.pods, **outside}
    assert network.pods.keys() == {"head", "worker", "gateway", "redis", "test"}

    def reached(port: int) -> set[str]:
        return {
            f"{source} {target}"
            for source in parts
            for target in parts
            if target not in outside and source != target and network.allows(parts[source], parts[target], port)
        }

    ray = {f"{a} {b}" for a in parts for b in parts if a != b and {a, b} <= {"head", "worker", "gateway"}}
    assert reached(10002) == ray
    assert reached(8265) == ray | {"operator head"}
    assert reached(6379) == ray | {"gateway redis", "head redis"}
    assert reached(8000) == ray | {"test gateway", "stranger gateway"}
    assert reached(80) == set()


@pytest.mark.parametrize("name", [name for name in CASES if name != "bare"])
def test_everything_is_denied_to_every_pod_before_anything_is_allowed(name: str) -> None:
    objects = case(name)
    deny = one(objects, "NetworkPolicy", "coe-deny")["spec"]
    assert deny.keys() == {"podSelector", "policyTypes"}
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    for where, template in templates(objects):
        assert selects(deny["podSelector"], template["metadata"]["labels"]), where


def openings(objects: list[Object]) -> Iterator[tuple[str, Object, list[Object]]]:
    """(policy, rule, its peers)"""
    for policy in objects:
        if policy["kind"] == "NetworkPolicy":
            for rules, peers in (("ingress", "from"), ("egress", "to")):
                for rule in policy["spec"].get(rules, ()):
                    yield policy["metadata"]["name"], rule, rule.get(peers, [])


@pytest.mark.parametrize("name", CASES)
def test_no_opening_is_for_everybody_or_for_every_port(name: str) -> None:
    for policy, rule, peers in openings(case(name)):
        assert rule.get("ports"), policy
        assert peers, policy
        for peer in peers:
            assert peer.get("namespaceSelector") != {}, policy
            assert not peer.get("ipBlock", {}).get("cidr", "").endswith("/0"), policy
            if peer.get("podSelector") == {}:
                assert (policy, [own["port"] for own in rule["ports"]]) == ("coe-gateway", [8000])


def test_autoscaling_opens_the_way_to_the_api_server_for_the_head_alone() -> None:
    policy = one(case("autoscaling"), "NetworkPolicy", "coe-autoscaler")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "head"
    assert policy["egress"][0]["to"] == API_SERVER


def test_the_way_to_a_redis_elsewhere_is_open_to_gateways_and_head_alone() -> None:
    for name in ("cpu", "gpu"):
        selector = one(case(name), "NetworkPolicy", "coe-to-redis")["spec"]["podSelector"]
        [own] = selector["matchExpressions"]
        assert (own["key"], own["operator"], own["values"]) == (
            "app.kubernetes.io/component",
            "In",
            ["head", "gateway"],
        )


# Ends and upgrades


@pytest.mark.parametrize("name", CASES)
def test_pods_have_time_for_the_requests_that_they_have(name: str, tmp_path: Path) -> None:
    objects = case(name)
    (tmp_path / "coe.yaml").write_text(coe_yaml(objects))
    drain = load_config(tmp_path / "coe.yaml", tmp_path, {"HOME": "/"}).limits.drain_s
    for where, container, spec in containers(objects):
        grace = spec.get("terminationGracePeriodSeconds", 30)
        if container["name"] == "gateway":
            [_, quiet] = container["lifecycle"]["preStop"]["exec"]["command"]
            assert grace >= int(quiet) + math.ceil(drain) + 10, where  # and what is written behind the requests
        elif container["name"] == "ray-worker":
            leave = container["lifecycle"]["preStop"]["exec"]["command"]
            within = int(leave[leave.index("--within") + 1])
            assert within >= drain + 2 * WORKERS_MORE_S, where  # else Serve ends its workers by force
            assert grace >= within + 30, where


def test_an_other_drain_time_moves_the_grace_periods() -> None:
    objects = render({**BUNDLED, "workers": {"cpu": None}, "config": {"limits": {"drain_s": 899.5}}})
    graces = {
        where: spec["terminationGracePeriodSeconds"]
        for where, own, spec in containers(objects)
        if own["name"] in ("gateway", "ray-worker")
    }
    assert graces == {"Deployment/coe-gateway/gateway": 930, "RayService/coe-ray/cpu/ray-worker": 990}


@pytest.mark.parametrize("name", CASES)
def test_a_disruption_budget_lets_go_of_one_pod_and_of_no_more(name: str) -> None:
    objects = case(name)
    labels = {where: template["metadata"]["labels"] for where, template in templates(objects)}
    groups = {f"coe-{own['groupName']}": own for own in ray_cluster(objects)["workerGroupSpecs"]}
    for budget in (own for own in objects if own["kind"] == "PodDisruptionBudget"):
        selected = [where for where, own in labels.items() if selects(budget["spec"]["selector"], own)]
        assert len(selected) == 1, budget
        group = groups.get(budget["metadata"]["name"])
        if group is None:
            assert budget["spec"]["maxUnavailable"] == 1
        else:
            assert selected == [f"RayService/coe-ray/{group['groupName']}"]
            assert budget["spec"]["minAvailable"] == group["minReplicas"] - 1 > 0


@pytest.mark.parametrize("name", CASES)
def test_selectors_select_the_pods_of_their_own(name: str) -> None:
    objects = case(name)
    labels = [template["metadata"]["labels"] for _, template in templates(objects)]
    for own in objects:
        if own["kind"] in ("Deployment", "StatefulSet"):
            assert selects(own["spec"]["selector"], own["spec"]["template"]["metadata"]["labels"])
        elif own["kind"] == "Service":
            assert len([pod for pod in labels if selects({"matchLabels": own["spec"]["selector"]}, pod)]) == 1


def test_another_configuration_starts_gateways_anew_and_no_engine() -> None:
    def made(**limits: int) -> tuple[dict[str, Any], Object, Object]:
        objects = render({**BUNDLED, "workers": {"cpu": None}, "config": {"limits": limits}})
        return dict(templates(objects)), ray_cluster(objects), serve_config(objects)

    (before, cluster, told), (after, same_cluster, other) = made(), made(messages=7)
    assert {where for where in before if before[where] != after[where]} == {"Deployment/coe-gateway"}
    assert cluster == same_cluster
    # Serve builds an application anew, and starts it anew, unless all that differs is the user_config.
    for own in (told, other):
        del own["applications"][0]["deployments"][0]["user_config"]["coe.yaml"]
    assert told == other


def test_the_keeper_is_there_once() -> None:
    [application] = serve_config(case("ha"))["applications"]
    [deployment] = application["deployments"]
    assert deployment["num_replicas"] == 1


@pytest.mark.parametrize("name", CASES)
def test_an_upgrade_doubles_no_gpu(name: str) -> None:
    """With this strategy KubeRay starts no second cluster, and without one of the cluster's own it replaces no pod."""
    objects = case(name)
    assert one(objects, "RayService")["spec"]["upgradeStrategy"] == {"type": "None"}
    assert "upgradeStrategy" not in ray_cluster(objects)


@pytest.mark.parametrize("name", CASES)
def test_the_operator_counts_worker_pods_that_are_ready_and_asks_nothing_of_serves_http(name: str) -> None:
    """A RayService is ready with the first endpoint of Serve's Service: those are the pods that are ready by a probe of
    their own. Without one the operator would give them one that asks Serve's proxies, of which there are none."""
    objects = case(name)
    assert one(objects, "RayService")["spec"]["excludeHeadPodFromServeSvc"] is True
    cluster = ray_cluster(objects)
    for group in cluster["workerGroupSpecs"]:
        [worker] = group["template"]["spec"]["containers"]
        assert {"readinessProbe", "livenessProbe"} <= worker.keys()
    [head] = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in head["ports"]} >= {"serve", "dashboard", "gcs-server"}
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"
