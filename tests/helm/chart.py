"""The chart as helm renders it, and what is looked up in the result."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.helm.tools import HELM, Tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "coe"
Object = dict[str, Any]

PROFILES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("values-cpu.yaml",),
    "gpu": ("values-gpu.yaml",),
    "ha": ("values-gpu.yaml", "values-ha.yaml"),
}
API_SERVER = [{"ipBlock": {"cidr": "10.96.0.1/32"}}]
MONITORED = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
TWO_GROUPS: Object = {
    "config": {
        "experts": [
            {"name": "chat", "source": "/models/chat", "family": "llama"},
            {"name": "lora", "kind": "adapter", "source": "/models/lora", "base": "alone"},
            {"name": "alone", "source": "/models/alone"},
            {"name": "a", "source": "/models/a", "family": "left"},
            {"name": "b", "source": "/models/b", "family": "right"},
            {
                "name": "api",
                "kind": "remote",
                "source": "langchain_openai:ChatOpenAI",
                "options": {"api_key": "env:KEY"},
            },
        ],
        "router": {"kind": "fixed", "fallback": "chat"},
        "families": {
            "llama": {"num_gpus": 1, "num_cpus": 2},
            "left": {"device": "shared"},
            "right": {"device": "shared"},
            "api": {"num_cpus": 0.1, "replicas": 1},
        },
        "devices": {"shared": {"num_gpus": 1, "num_cpus": 1}},
        "limits": {"body_bytes": 10485760, "timeout_s": 0.5, "drain_s": 45.5},
    },
    "workers": {
        "gpu": {
            "families": ["llama"],
            "devices": ["shared"],
            "replicas": 2,
            "resources": {"limits": {"cpu": "4500m", "memory": "64Gi", "nvidia.com/gpu": 2}},
        },
        "rest": None,
    },
}
"""Families with a group of their own, on a shared device, with an adapter, behind an API, and left to the rest."""

BUNDLED: Object = {"redis": {"bundled": {"enabled": True}}}
MATRIX: Mapping[str, Object] = {
    "two groups": {**BUNDLED, **TWO_GROUPS},
    "autoscaling": {
        **BUNDLED,
        **TWO_GROUPS,
        "config": TWO_GROUPS["config"]
        | {
            "devices": {"shared": {"num_gpus": 1, "num_cpus": 1, "autoscaling": {"min_replicas": 2, "max_replicas": 4}}}
        },
        "ray": {"autoscaling": {"enabled": True}},
        "workerDefaults": {"minReplicas": 2, "maxReplicas": 4},
        "networkPolicy": {"apiServer": API_SERVER},
    },
    "tls": {**BUNDLED, "workers": {"cpu": None}, "gateway": {"tlsSecret": "coe-tls", "replicas": 3}},
    "bare": {
        **BUNDLED,
        "workers": {"cpu": None},
        "fake": True,
        "ray": {"tokenAuth": False, "faultTolerance": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudgets": {"enabled": False},
    },
    "everything": {
        **BUNDLED,
        "workers": {
            "cpu": {
                "replicas": 2,
                "image": {"repository": "registry.example/other", "digest": "sha256:" + "0" * 64},
                "env": [{"name": "HF_HOME", "value": "/var/lib/coe/hf"}],
                "envFrom": [{"secretRef": {"name": "providers"}}],
                "annotations": {"a": "b"},
                "nodeSelector": {"c": "d"},
                "tolerations": [{"key": "e", "operator": "Exists"}],
                "runtimeClassName": "nvidia",
                "priorityClassName": "high",
                "home": {"hostPath": {"path": "/mnt/coe", "type": "DirectoryOrCreate"}},
            }
        },
        "config": {"batch": {"files_url": "s3://bucket/coe"}},
        "image": {"pullSecrets": ["registry"], "digest": "sha256:" + "1" * 64},
        "models": {"volume": {"nfs": {"server": "nas", "path": "/models"}}},
        "gateway": {
            "autoscaling": {"enabled": True},
            "env": [{"name": "A", "value": "1"}],
            "envFrom": [{"configMapRef": {"name": "more"}}],
            "annotations": {"a": "b"},
            "nodeSelector": {"c": "d"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "high",
            "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
        },
        "serviceAccount": {"annotations": {"a": "b"}},
        "redis": {"bundled": {"enabled": True, "storageClass": "fast"}},
        "monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboard")},
        "networkPolicy": {
            "monitoring": MONITORED,
            "gatewayEgress": [{"ports": [{"port": 4318}], "to": [{"podSelector": {"matchLabels": {"app": "otel"}}}]}],
            "workerEgress": [{"ports": [{"port": 443}], "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}],
        },
    },
}


class Refused(Exception):
    """helm does not render it; the text is what it said."""


def helm(*arguments: str, stdin: str | None = None, tool: Tool = HELM) -> str:
    """Raises Refused."""
    result = subprocess.run(
        [str(tool.fetched() / "helm"), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise Refused(result.stderr + result.stdout)
    return result.stdout


def render(
    values: Mapping[str, Any] | None = None, profile: str | None = None, release: str = "coe", tool: Tool = HELM
) -> list[Object]:
    """The objects of a release with these values on top of a profile. Raises Refused."""
    files = [argument for name in PROFILES.get(profile or "", ()) for argument in ("--values", str(CHART / name))]
    arguments = ["template", release, str(CHART), "--namespace", "ai", *files, "--values", "-"]
    text = helm(*arguments, "--kube-version", "1.33.0", stdin=json.dumps(values or {}), tool=tool)
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


@cache
def _case(name: str) -> str:
    return json.dumps(render(profile=name) if name in PROFILES else render(MATRIX[name]))


def case(name: str) -> list[Object]:
    """A profile, or one of MATRIX."""
    objects: list[Object] = json.loads(_case(name))
    return objects


CASES = (*PROFILES, *MATRIX)


def one(objects: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The object of that kind and name, of which there must be one."""
    found = [own for own in objects if own["kind"] == kind and name in (None, own["metadata"]["name"])]
    assert len(found) == 1, [(own["kind"], own["metadata"]["name"]) for own in objects]
    return found[0]


def templates(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """(where, template) of every pod that comes of these objects: its metadata and spec."""
    for own in objects:
        where = f"{own['kind']}/{own['metadata']['name']}"
        if own["kind"] == "Pod":
            yield where, own
        elif own["kind"] == "RayService":
            cluster = own["spec"]["rayClusterConfig"]
            yield f"{where}/head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{where}/{group['groupName']}", group["template"]
        elif "template" in own.get("spec", {}):
            yield where, own["spec"]["template"]


def containers(objects: Sequence[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(where, container, pod's spec) of every container that comes of these objects."""
    for where, template in templates(objects):
        spec = template["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield f"{where}/{container['name']}", container, spec


def ray_cluster(objects: Sequence[Object]) -> Object:
    """The spec of the Ray cluster."""
    spec: Object = one(objects, "RayService")["spec"]["rayClusterConfig"]
    return spec


def serve_config(objects: Sequence[Object]) -> Object:
    """What the operator hands to Serve: the YAML in the text as JSON, as it makes of it."""
    told: Object = json.loads(json.dumps(yaml.safe_load(one(objects, "RayService")["spec"]["serveConfigV2"])))
    return told


def coe_yaml(objects: Sequence[Object]) -> str:
    text: str = one(objects, "ConfigMap", "coe")["data"]["coe.yaml"]
    return text
