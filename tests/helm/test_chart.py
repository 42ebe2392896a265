"""The chart renders what Kubernetes and KubeRay accept, and what the service's own loader reads."""

import copy
import difflib
import functools
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from helm.values_schema import PATH, written
from orchestrator.config.load import load
from orchestrator.config.model import Config
from orchestrator.keeper import read as read_by_keeper
from orchestrator.keeping import OURS
from orchestrator.plans import plans
from orchestrator.preparing import with_fake_engines
from orchestrator.settings import Settings
from tests.helm.chart import (
    CASES,
    CHART,
    PROFILES,
    Object,
    Refused,
    case,
    coe_yaml,
    containers,
    helm,
    one,
    ray_cluster,
    render,
    serve_config,
    templates,
)
from tests.helm.tools import HELM_3, SCHEMAS

HERE = Path(__file__).parent
CLUSTER = ("spec", "rayClusterConfig")
VERSIONS = ("v1.27.0", "v1.37.0")
"""Of Kubernetes: the oldest that the chart allows, and the newest with schemas."""


# Schemas


def closed(schema: Any) -> Any:
    """A schema of a custom resource under which what it does not know is an error; the API server would drop it."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    new = {key: closed(part) for key, part in schema.items()}
    if isinstance(new.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in new:
        new.setdefault("additionalProperties", False)
    if new.pop("x-kubernetes-int-or-string", False):
        new.pop("anyOf", None)
        new["type"] = ["integer", "string"]
    return new


def _text(**properties: Any) -> Object:
    return {"type": "object", "additionalProperties": False, "properties": properties}


STRINGS: Object = {"type": "object", "additionalProperties": {"type": "string"}}
STRING: Object = {"type": "string"}
METADATA: Object = {"type": "object", "required": ["name", "labels"]}
OF_PROMETHEUS: Object = {
    "ServiceMonitor": _text(
        selector=_text(matchLabels=STRINGS),
        endpoints={
            "type": "array",
            "minItems": 1,
            "items": _text(
                port=STRING,
                path=STRING,
                interval=STRING,
                scheme={"enum": ["http", "https"]},
                tlsConfig=_text(insecureSkipVerify={"type": "boolean"}),
            ),
        },
    ),
    "PrometheusRule": _text(
        groups={
            "type": "array",
            "minItems": 1,
            "items": _text(
                name=STRING,
                rules={
                    "type": "array",
                    "minItems": 1,
                    "items": _text(
                        alert=STRING,
                        expr=STRING,
                        labels=STRINGS,
                        annotations=STRINGS,
                        **{"for": {"type": "string", "pattern": "^[0-9]+m$"}},
                    ),
                },
            ),
        }
    ),
}
"""The part of these resources that the chart uses, by the reference of the Prometheus operator."""


@functools.cache
def validator(api_version: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    """Of the objects of a kind, as that version of Kubernetes has it."""
    if kind == "RayService":
        schema = closed(json.loads((HERE / "data" / "rayservice-v1.json").read_text()))
        return jsonschema.Draft202012Validator(schema)
    if kind in OF_PROMETHEUS:
        known = {"apiVersion": {"const": "monitoring.coreos.com/v1"}, "kind": {}, "metadata": METADATA}
        return jsonschema.Draft202012Validator(_text(**known, spec=OF_PROMETHEUS[kind]))
    folder = SCHEMAS.fetched() / version
    group, _, own = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], own)))
    schema, definitions = (json.loads((folder / f"{name}.json").read_text()) for name in (name, "_definitions"))
    registry: Any = Registry().with_resources(
        [
            (
                f"{folder.as_uri()}/_definitions.json",
                Resource.from_contents(definitions, default_specification=_draft()),
            ),
            ("_definitions.json", Resource.from_contents(definitions, default_specification=_draft())),
        ]
    )
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _draft() -> Any:
    from referencing.jsonschema import DRAFT202012

    return DRAFT202012


def mistakes(own: Object, version: str) -> list[str]:
    check = validator(own["apiVersion"], own["kind"], version)
    return [f"{own['kind']} {error.json_path}: {error.message[:300]}" for error in check.iter_errors(own)]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_and_kuberay_know_every_field(version: str) -> None:
    distinct: dict[str, str] = {}  # an object as JSON -> a case in which it comes; most are the same in many
    for name in CASES:
        objects = case(name)
        # KubeRay's schema of pods is that of one version of Kubernetes, so pods are held against each version's.
        service = one(objects, "RayService")
        pods = [{"apiVersion": "v1", "kind": "Pod", **template} for _, template in templates([service])]
        distinct |= {json.dumps(own): name for own in (*objects, *pods)}
    found = [f"{name}: {problem}" for own, name in distinct.items() for problem in mistakes(json.loads(own), version)]
    assert found == []
    assert len(distinct) > 60


@pytest.mark.parametrize(
    ("kind", "way", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "tolerationz"), []),
        ("Deployment", ("spec", "replicas"), "one"),
        ("NetworkPolicy", ("spec", "podSelektor"), {}),
        ("RayService", ("spec", "serveConfig"), "2"),
        ("RayService", (*CLUSTER, "rayVersions"), "2"),
        ("RayService", (*CLUSTER, "authOptions", "secret"), "2"),
        ("RayService", (*CLUSTER, "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("RayService", (*CLUSTER, "headGroupSpec", "template", "spec", "containerz"), []),
        ("ServiceMonitor", ("spec", "endpoint"), []),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "exp"), "1"),
    ],
)
def test_a_field_that_does_not_exist_or_has_another_type_would_be_found(
    kind: str, way: tuple[str | int, ...], value: object
) -> None:
    own = copy.deepcopy(next(own for own in case("ha") if own["kind"] == kind))
    at: Any = own
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = value
    assert len(mistakes(own, VERSIONS[-1])) == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_finds_nothing_to_warn_of(profile: str) -> None:
    files = [argument for name in PROFILES[profile] for argument in ("--values", str(CHART / name))]
    said = helm("lint", "--strict", str(CHART), *files)
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_3_renders_the_same(profile: str) -> None:
    def sorted_by_text(objects: list[Object]) -> list[str]:
        return sorted(json.dumps(own, sort_keys=True) for own in objects)

    assert sorted_by_text(render(profile=profile, tool=HELM_3)) == sorted_by_text(case(profile))
    with pytest.raises(Refused, match="gatway"):
        render({"gatway": {}}, profile=profile, tool=HELM_3)


# What the service reads


def read(objects: list[Object], tmp_path: Path) -> tuple[Settings, Config]:
    """Settings and configuration as a gateway of the release has them, with its own file and its own environment."""
    file = tmp_path / "coe.yaml"
    file.write_text(coe_yaml(objects))
    [gateway] = [own for where, own, _ in containers(objects) if where.endswith("-gateway/gateway")]
    environment = {variable["name"]: variable.get("value", "a-secret-of-16-bytes") for variable in gateway["env"]}
    if "COE_REDIS_URL" in environment and not environment["COE_REDIS_URL"].startswith("redis"):
        environment["COE_REDIS_URL"] = "redis://:secret@redis.example:6379/0"
    environment["COE_REDIS_URL"] = environment["COE_REDIS_URL"].replace("$(REDIS_PASSWORD)", "secret")
    assert environment.pop("COE_CONFIG") == "/etc/coe/coe.yaml"
    return load({"config": str(file)}, environment, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_the_service_reads_its_file_and_environment(name: str, tmp_path: Path) -> None:
    settings, config = read(case(name), tmp_path)
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.ray_address == "coe-ray-head-svc:6379"
    assert settings.redis_url is not None
    assert settings.api_key is not None
    assert settings.home == Path("/var/lib/coe")
    assert settings.tls is (name == "tls")
    assert len(config.registry()) > 0


@pytest.mark.parametrize("name", CASES)
def test_each_family_runs_where_its_group_is_and_nowhere_else(name: str, tmp_path: Path) -> None:
    objects = case(name)
    _, config = read(objects, tmp_path)
    there: dict[str, list[str]] = {}
    for group in ray_cluster(objects)["workerGroupSpecs"]:
        # KubeRay hands the text to a shell, in whose quotes the JSON is.
        resources = json.loads(json.loads(group["rayStartParams"]["resources"]))
        there |= {resource: [] for resource in resources}
    assert len(there) == len(ray_cluster(objects)["workerGroupSpecs"])
    for app, plan in plans(config, config.registry(), Path("/var/lib/coe")).items():
        [resource] = plan.config.resources
        there[resource].append(app)
    assert all(there.values()), f"a group without work: {there}"


def test_groups_get_the_families_that_they_name_and_one_gets_the_rest(tmp_path: Path) -> None:
    _, config = read(case("two groups"), tmp_path)
    found = plans(config, config.registry(), Path("/var/lib/coe"))
    assert {app: (next(iter(plan.config.resources)), plan.config.replicas) for app, plan in found.items()} == {
        "coe-llama": ("coe-gpu", 2),
        "coe-device-shared": ("coe-gpu", 2),
        "coe-alone": ("coe-rest", 1),
        "coe-api": ("coe-rest", 1),
    }
    # What Helm has read as a floating-point number is still the number that was written.
    assert (config.limits.body_bytes, config.limits.timeout_s, config.limits.drain_s) == (10485760, 0.5, 45.5)


def test_with_autoscaling_families_have_workers_for_the_pods_that_are_always_there(tmp_path: Path) -> None:
    objects = case("autoscaling")
    _, config = read(objects, tmp_path)
    assert (config.family("llama").replicas, config.family("api").replicas) == (2, 1)
    assert config.devices["shared"].bounds == (2, 4)  # and for more, as its load wants
    for group in ray_cluster(objects)["workerGroupSpecs"]:
        assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 4)


@pytest.mark.parametrize("name", CASES)
def test_there_are_batches_where_gateways_share_their_files(name: str, tmp_path: Path) -> None:
    objects = case(name)
    _, config = read(objects, tmp_path)
    [gateway] = [own for where, own, _ in containers(objects) if where.endswith("-gateway/gateway")]
    mounts = [own["mountPath"] for own in gateway["volumeMounts"] if own["name"] == "batch"]
    if name == "ha":
        assert (config.batch.enabled, config.batch.files_url) == (True, "file:///var/lib/coe-batch")
        assert mounts == ["/var/lib/coe-batch"]
    elif name == "everything":
        assert (config.batch.enabled, config.batch.files_url) == (True, "s3://bucket/coe")
    else:
        assert (config.batch.enabled, mounts) == (False, [])


# What Serve reads


@pytest.mark.parametrize("name", CASES)
def test_serve_takes_its_configuration_and_the_keeper_what_it_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.serve.schema import ServeDeploySchema

    objects = case(name)
    told = ServeDeploySchema.model_validate(serve_config(objects))
    assert told.proxy_location == "Disabled"
    [keeper] = told.applications
    assert not keeper.name.startswith(OURS)  # else the keeper would remove itself
    [deployment] = keeper.deployments
    assert isinstance(deployment.user_config, dict)
    [head] = [own for where, own, _ in containers(objects) if where.endswith("/head/ray-head")]
    for variable in head["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    settings, config = read_by_keeper(deployment.user_config)
    assert settings.home == Path("/var/lib/coe")
    # It keeps what gateways look for.
    _, wanted = read(objects, tmp_path)
    of_gateways = plans(with_fake_engines(wanted) if name == "bare" else wanted, wanted.registry(), settings.home)
    assert plans(config, config.registry(), settings.home) == of_gateways


def test_serve_builds_the_keeper_and_finds_its_place_on_the_head_alone() -> None:
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    objects = case("gpu")
    [keeper] = ServeDeploySchema.model_validate(serve_config(objects)).applications
    module, _, name = keeper.import_path.partition(":")
    built: Any = call_user_app_builder_with_args_if_necessary(getattr(import_module(module), name), keeper.args)
    [deployment] = keeper.deployments
    assert built._bound_deployment.name == deployment.name
    place = deployment.ray_actor_options.model_dump(exclude_unset=True)
    assert place == {"num_cpus": 0, "resources": {"coe-keeper": 0.001}}
    cluster = ray_cluster(objects)
    head, *workers = (json.loads(json.loads(group["rayStartParams"]["resources"])) for group in groups(cluster))
    assert head == {"coe-keeper": 1}
    assert not [own for own in workers if "coe-keeper" in own]
    # It reads the checkpoints' files, as gateways do.
    mounts = [own["mountPath"] for own in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert "/models" in mounts


def groups(cluster: Object) -> list[Object]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


# Golden files


IMPORTANT = {
    "cpu": ("RayService", "Deployment", "ConfigMap", "StatefulSet", "NetworkPolicy"),
    "ha": ("RayService", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ServiceMonitor"),
}


@pytest.mark.parametrize("profile", IMPORTANT)
def test_important_manifests_change_only_on_purpose(profile: str) -> None:
    """GOLDEN=write writes them anew, to be read in the diff before it is committed."""
    kept = [
        own for own in case(profile) if own["kind"] in IMPORTANT[profile] and "dashboard" not in str(own["metadata"])
    ]
    kept.sort(key=lambda own: (own["kind"], own["metadata"]["name"]))
    text = yaml.dump_all(kept, sort_keys=True, width=120)
    path = HERE / "golden" / f"{profile}.yaml"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    before = path.read_text()
    difference = "\n".join(difflib.unified_diff(before.splitlines(), text.splitlines(), lineterm="", n=2))
    assert text == before, f"{path.name} differs; GOLDEN=write writes it anew:\n{difference}"


# The values


def test_the_schema_is_current() -> None:
    assert PATH.read_text() == written(), "out of date: python -m helm.values_schema"


def test_every_key_of_the_schema_stands_in_values_yaml() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads(PATH.read_text())

    def missing(schema: Object, values: Object, way: str) -> list[str]:
        gone = []
        for key, part in schema.get("properties", {}).items():
            if way + key in ("global", "config.", "workerDefaults.image.repository") or way.startswith("config."):
                continue
            if key not in values:
                gone.append(way + key)
            elif isinstance(values[key], dict) and values[key]:
                gone += missing(part, values[key], f"{way}{key}.")
        return gone

    assert missing(schema, values, "") == []


def test_a_release_by_any_name_has_names_that_kuberay_takes() -> None:
    objects = render(profile="cpu", release="x" * 53)
    name = one(objects, "RayService")["metadata"]["name"]
    assert len(name) <= 47  # the operator refuses longer ones
    [gateway] = [own for where, own, _ in containers(objects) if where.endswith("-gateway/gateway")]
    [address] = [own["value"] for own in gateway["env"] if own["name"] == "RAY_ADDRESS"]
    assert address == f"{name}-head-svc:6379"


def test_gateways_and_operator_read_the_token_in_the_same_secret() -> None:
    objects = case("gpu")
    [gateway] = [own for where, own, _ in containers(objects) if where.endswith("-gateway/gateway")]
    [token] = [own["valueFrom"]["secretKeyRef"] for own in gateway["env"] if own["name"] == "RAY_AUTH_TOKEN"]
    assert token["key"] == "auth_token"
    assert ray_cluster(objects)["authOptions"] == {"mode": "token", "secretName": token["name"]}
