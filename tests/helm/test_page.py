"""docs/kubernetes.md names what there is."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from orchestrator.cli.main import app
from orchestrator.config.batch import BatchConfig
from orchestrator.config.model import FamilyConfig
from tests.helm.chart import CHART, PROFILES, ROOT, case, containers, one, ray_cluster

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()


def test_the_values_that_it_names_exist() -> None:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    values["workers"] = {"<group>": values["workerDefaults"]}
    values["config"] |= {"families": {"<name>": FamilyConfig().model_dump()}, "batch": BatchConfig().model_dump()}
    named = [name for name in re.findall(r"`(\w+\.[\w.<>]+)`", PAGE) if name.partition(".")[0] in values]
    assert len(named) > 8
    for name in named:
        at: Any = values
        for key in name.split("."):
            assert key in at, name
            at = at[key]


def test_it_tells_of_every_alert_and_profile() -> None:
    [group] = one(case("ha"), "PrometheusRule")["spec"]["groups"]
    assert re.findall(r"^\| (Coe\w+) \|", PAGE, re.MULTILINE) == [rule["alert"] for rule in group["rules"]]
    assert {name for files in PROFILES.values() for name in files} == set(
        re.findall(r"^\| `(values-\w+\.yaml)`", PAGE, re.M)
    )


def test_the_objects_and_commands_that_it_names_exist() -> None:
    objects = {f"{own['kind'].lower()}/{own['metadata']['name']}" for own in case("cpu")}
    assert set(re.findall(r"\b(deployment/[\w-]+)", PAGE)) <= objects
    assert "raycluster/coe-ray" not in objects  # the operator gives it a name, and a label by which the page finds it
    named = re.findall(r"(?:rayservice |originated-from-cr-name=)(coe[\w-]*)", PAGE)
    assert {f"rayservice/{name}" for name in named} <= objects
    assert len(named) == 4
    components = set(re.findall(r"component=(\w+)", PAGE))
    assert components == {"worker", "head"}
    commands = re.findall(r"`?(coe (?:keys|workers|serve)[ \w-]*)", PAGE)
    assert len(commands) > 4
    for line in commands:
        command: Any = get_command(app)
        for word in shlex.split(line)[1:]:
            if not getattr(command, "commands", None):
                break
            command = command.commands[word]


def test_the_secrets_that_it_makes_are_those_that_pods_and_operator_read() -> None:
    made = set(re.findall(r"create secret generic ([\w-]+) --from-literal=([\w-]+)=", PAGE))
    objects = case("cpu")
    read = {
        (own["name"], own["key"])
        for _, container, _ in containers(objects)
        for variable in container.get("env", ())
        if (own := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert made == read
    assert ray_cluster(objects)["authOptions"]["secretName"] in {name for name, _ in made}


KUBECTL = """
import json, pathlib, sys
wanted = json.loads(pathlib.Path("wanted.json").read_text())
match sys.argv[3:]:
    case ["get", "raycluster", "--selector", "ray.io/originated-from-cr-name=coe-ray", "--output", "name"]:
        print("raycluster.ray.io/coe-ray-abcde")
    case ["get", "rayservice", "coe-ray", "--output", "jsonpath={.spec.rayClusterConfig}"]:
        print(json.dumps(wanted), end="")
    case ["patch", "raycluster.ray.io/coe-ray-abcde", "--type", "json", "--patch-file", "/dev/stdin"]:
        pathlib.Path("patch.json").write_text(sys.stdin.read())
    case other:
        sys.exit(f"not what the page does: {other}")
"""
"""The API server, as far as the page asks it."""


def test_what_changes_of_the_pods_is_handed_to_the_cluster_by_the_commands_of_the_page(tmp_path: Path) -> None:
    [commands] = re.findall(r"```bash\n(cluster=.*?)```", PAGE, re.S)
    wanted = ray_cluster(case("gpu"))
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!{sys.executable}\n{KUBECTL}")
    kubectl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    patch = json.loads((tmp_path / "patch.json").read_text())
    assert patch == [{"op": "replace", "path": "/spec", "value": wanted}]


def test_its_times_are_those_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert f"`config.limits.drain_s` ({values['config']['limits']['drain_s']} s)" in PAGE
    gateway = one(case("cpu"), "Deployment", "coe-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert f"answers on for {gateway['lifecycle']['preStop']['exec']['command'][1]} s" in PAGE
