"""What runs in the containers: commands that exist, the environment that they read, scripts that do what they say."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from typer.main import get_command

from orchestrator.cli.main import app
from orchestrator.cluster import RAY_ENVIRONMENT
from orchestrator.embedded_redis import server_binary
from tests.helm.chart import CASES, Object, case, containers, one, ray_cluster


def commands(objects: list[Object]) -> Iterator[tuple[str, list[str]]]:
    """(where, words) of each `coe` and `ray` that a container runs."""
    for where, container, _ in containers(objects):
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        lines = [
            shlex.split(line)
            for text in container.get("args", ())
            for line in text.splitlines()
            if "python" not in container["command"]
        ]
        for words in (container.get("command", []), hook, *lines):
            words = words[1:] if words[:1] == ["exec"] else words
            if words[:1] in (["coe"], ["ray"]):
                yield where, words


@pytest.mark.parametrize("name", ["cpu", "gpu", "bare"])
def test_the_commands_exist_with_their_options(name: str) -> None:
    from ray.scripts.scripts import start

    seen = set()
    for where, (program, *words) in commands(case(name)):
        command = get_command(app) if program == "coe" else start
        if program == "ray":
            assert words.pop(0) == "start"
        while (inner := getattr(command, "commands", {})) and words:
            command = inner[words.pop(0)]
        # Raises what the command itself would for an option that it has not, or a value that it does not take.
        command.make_context(where, words)
        seen.add(command.name)
    assert seen == {"start", "serve", "leave"} | ({"setup"} if name == "cpu" else set())


@pytest.mark.parametrize("name", CASES)
def test_ray_knows_the_parameters_of_each_group(name: str) -> None:
    from ray.scripts.scripts import start

    known = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    spec = ray_cluster(case(name))
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert group["rayStartParams"].keys() <= known
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # no worker beside Ray's head


def test_the_whole_cluster_has_the_environment_that_serve_reads() -> None:
    ours = [
        (where, own)
        for where, own, _ in containers(case("gpu"))
        if "coe-server" in own["image"] and "test" not in where
    ]
    assert len(ours) == 3
    for where, container in ours:
        there = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert there.items() >= RAY_ENVIRONMENT.items(), where


def test_the_version_of_ray_is_that_of_the_lock() -> None:
    lock = (Path(__file__).parents[2] / "requirements" / "cpu.lock").read_text()
    assert f"\nray=={ray_cluster(case('cpu'))['rayVersion']} " in lock


def test_a_pod_is_ready_while_no_process_in_it_loads(tmp_path: Path) -> None:
    [worker] = [own for _, own, _ in containers(case("cpu")) if own["name"] == "ray-worker"]
    [folder] = [own["value"] for own in worker["env"] if own["name"] == "COE_LOADING_FOLDER"]
    shell, option, script = worker["readinessProbe"]["exec"]["command"]

    def is_ready() -> bool:
        own = script.replace(folder, str(tmp_path))
        assert own != script
        return subprocess.run([shell, option, own], check=False).returncode == 0

    assert is_ready()
    (tmp_path / str(os.getpid())).touch()
    assert not is_ready()
    (tmp_path / str(os.getpid())).rename(tmp_path / "999999999")  # of a process that is no more
    assert is_ready()


def test_the_test_pod_asks_the_service() -> None:
    pod = one(case("cpu"), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    [container] = pod["spec"]["containers"]
    compile(container["args"][0], "test pod", "exec")
    assert json.dumps(container["env"]).count("http://coe:8000") == 1


def test_the_bundled_redis_starts_with_its_arguments_and_asks_for_the_password(tmp_path: Path) -> None:
    [redis] = [own for _, own, _ in containers(case("cpu")) if own["name"] == "redis"]
    [script] = redis["args"]
    path = tmp_path / "redis.sock"
    here = script.replace("/data", str(tmp_path)).replace("/tmp/redis.conf", str(tmp_path / "redis.conf"))
    here = here.replace("exec redis-server", f"exec {server_binary()}").rstrip() + f" --port 0 --unixsocket {path}"
    assert here.count(str(tmp_path)) == 4
    process = subprocess.Popen([*redis["command"], here], env={"REDISCLI_AUTH": "s3cret"}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with Redis(unix_socket_path=str(path)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with Redis(unix_socket_path=str(path), password="s3cret", decode_responses=True) as client:
            wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "save": ""}
            assert {key: client.config_get(key)[key] for key in wanted} == wanted
        assert "s3cret" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        process.wait(30)
