"""Workers on a Ray cluster that two gateways share, as on Kubernetes: real Ray, real Redis, the fake engine."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.live import ROOT, service, stop
from orchestrator.embedded_redis import EmbeddedRedis
from tests.service.commands import coe
from tests.service.ray_parts import RAY, ask, in_cluster, ray_cluster

pytestmark = pytest.mark.service

CONFIG = """
experts:
  - {name: chat, source: /models/chat, family: one}
  - {name: sums, source: /models/sums, family: two}
router: {kind: fixed, fallback: chat}
families:
  one: {num_cpus: 0.1, replicas: %d, engine_args: {fake_token_delay: 0.05}}
  two: {num_cpus: 0.1, resources: {marked: 0.1}}
"""


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster that has the resource which the family `two` wants."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as address:
        yield address


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@contextmanager
def workers(tmp_path: Path, ray_address: str, replicas: int) -> Iterator[subprocess.Popen[bytes]]:
    """`coe workers keep`, which has deployed by the time that this yields."""
    config, alive = tmp_path / "coe.yaml", tmp_path / "alive"
    config.write_text(CONFIG % replicas)
    alive.unlink(missing_ok=True)
    command = [sys.executable, "-m", "orchestrator.cli", "workers", "keep", "--fake"]
    process = subprocess.Popen(
        [*command, "--config", str(config), "--ray-address", ray_address, "--alive", str(alive)],
        cwd=ROOT, env={**os.environ, "COE_HOME": str(tmp_path), **RAY}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not alive.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline, "it does not deploy"
            time.sleep(0.1)
        yield process
    finally:
        stop(process)


def replicas_of(ray_address: str, app: str) -> set[str]:
    """The names of the actors that are an application's replicas."""
    said = in_cluster(ray_address, "for a in ray.util.list_named_actors(all_namespaces=True): print(a['name'])")
    return {line for line in said.splitlines() if app in line}


def workers_command(ray_address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "workers", *arguments, "--ray-address", ray_address],
        cwd=ROOT, env={**os.environ, **RAY}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_workers_follow_the_keepers_file_and_gateways_when_they_are_asked(
    tmp_path: Path, ray_address: str, redis_url: str
) -> None:
    environment: Mapping[str, str] = {"COE_REDIS_URL": redis_url, "RAY_ADDRESS": ray_address, **RAY}
    config = tmp_path / "coe.yaml"
    made = coe("keys", "create", "admin", "--admin", COE_REDIS_URL=redis_url, COE_HOME=str(tmp_path))
    admin = made.stdout.split()[0]
    with workers(tmp_path, ray_address, 1):
        arguments = ["--fake", "--attach", "--config", str(config)]
        with service(tmp_path / "gateway", arguments, environment, within=120) as live:
            before = replicas_of(ray_address, "coe-one")
            assert ask(live, "new").status_code == 404
            good = config.read_text()
            config.write_text(good.replace("fallback: chat", "fallback: nobody"))  # which the keeper passes over
            time.sleep(6)
            config.write_text(good.replace("router:", "  - {name: new, source: /models/new, family: one}\nrouter:"))
            port = live.url.rpartition(":")[2]
            done = coe("experts", "apply", "--config", str(config), COE_API_KEY=admin, COE_PORT=port)
            assert (done.returncode, done.stdout) == (0, "+ new\n"), done.stderr
            assert [ask(live, model).status_code for model in ("new", "chat", "sums")] == [200] * 3
            assert replicas_of(ray_address, "coe-one") == before
    assert workers_command(ray_address, "remove").returncode == 0


def test_gateways_come_and_go_and_the_workers_stay(tmp_path: Path, ray_address: str, redis_url: str) -> None:
    environment: Mapping[str, str] = {"COE_REDIS_URL": redis_url, "RAY_ADDRESS": ray_address, **RAY}
    arguments = ["--fake", "--attach", "--config", str(tmp_path / "coe.yaml")]
    with ExitStack() as stack:
        with workers(tmp_path, ray_address, 1):
            first = stack.enter_context(service(tmp_path / "first", arguments, environment, within=120))
            second = stack.enter_context(service(tmp_path / "second", arguments, environment, within=120))
            before = replicas_of(ray_address, "coe-one")
            assert len(before) == 1
            assert [ask(live, model).status_code for live in (first, second) for model in ("chat", "sums")] == [200] * 4

        # Without the keeper, and without one of the gateways, the other goes on.
        stop(first.process)
        assert ask(second, "chat").status_code == 200

        # A keeper that comes back leaves what runs as it is, and adds a worker where more are wanted.
        with workers(tmp_path, ray_address, 2):
            deadline = time.monotonic() + 60
            while len(now := replicas_of(ray_address, "coe-one")) < 2:
                assert time.monotonic() < deadline
            assert before < now
            assert ask(second, "chat").status_code == 200

        # A node that leaves ends its workers, each after the calls that it has.
        with ThreadPoolExecutor(1) as pool:
            words = [{"role": "user", "content": "word " * 300}]  # which the fake engine says again, 20 a second
            long = pool.submit(ask, second, "chat", messages=words, max_tokens=250)
            left = workers_command(ray_address, "leave", "--within", "60")
            assert left.returncode == 0, left.stderr
            assert long.result().json()["usage"]["completion_tokens"] == 250
        code = "from orchestrator.ray_internals import replicas_on\n"
        code += "print(replicas_on(ray.get_runtime_context().get_node_id()))"
        assert in_cluster(ray_address, code) == "[]\n"

        removed = workers_command(ray_address, "remove")
        assert (removed.returncode, removed.stdout) == (0, "removed: coe-one, coe-two\n"), removed.stderr


def test_what_the_chart_waits_for_tells_a_head_that_is_up_to_who_has_its_token(ray_address: str) -> None:
    command = [str(Path(sys.executable).parent / "ray"), "health-check", "--address", ray_address]

    def is_up(**more: str) -> bool:
        own = {**os.environ, **RAY, **more}
        return subprocess.run(command, env=own, capture_output=True, timeout=120, check=False).returncode == 0

    assert is_up()
    assert not is_up(RAY_AUTH_TOKEN=secrets.token_hex(32))
