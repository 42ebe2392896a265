"""The RayService of the chart, without Kubernetes: its Serve configuration is put to Ray as KubeRay's operator does.
Real Ray with its dashboard, real Redis, fake engines."""

import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from benchmarks.live import Live, free_port, service
from orchestrator.embedded_redis import EmbeddedRedis, server_binary
from tests.helm.chart import BUNDLED, Object, coe_yaml, render, serve_config
from tests.service.load import Load
from tests.service.ray_parts import RAY, ask, one_of_several, ray_node

pytestmark = pytest.mark.service

EXPERT = {"name": "chat", "source": "/models/chat", "family": "one"}
FAMILY = {"num_cpus": 0.1, "replicas": 2, "engine_args": {"fake_token_delay": 0.01}}
TOKEN = {"x-ray-authorization": f"Bearer {RAY['RAY_AUTH_TOKEN']}"}
"""By which the operator shows that it is one."""


def release(*more: Mapping[str, object], families: Mapping[str, object] | None = None) -> list[Object]:
    """The chart's objects for the expert `chat` and these, in families of their own or those named."""
    config = {
        "experts": [EXPERT, *more],
        "router": {"kind": "fixed", "fallback": "chat"},
        "families": {"one": FAMILY, **(families or {})},
    }
    return render({**BUNDLED, "fake": True, "workers": {"cpu": None}, "config": config})


@dataclass(frozen=True)
class Operator:
    """KubeRay's, as far as it talks to Ray. url: of the dashboard."""

    url: str

    def put(self, objects: list[Object]) -> None:
        """It gives Ray two seconds, and tries again every two until it was heard."""
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.put(self.path, json=serve_config(objects), headers=TOKEN, timeout=2, trust_env=False)
                assert answer.status_code == 200, answer.text
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(2)

    @property
    def path(self) -> str:
        return f"{self.url}/api/serve/applications/"

    def sees(self) -> dict[str, str]:
        """The applications whose state it tells in a RayService's status, and that it waits for to run."""
        return {name: own["status"] for name, own in self.applications(api_type="declarative").items()}

    def applications(self, **query: str) -> dict[str, Any]:
        answer = httpx.get(self.path, params=query, headers=TOKEN, timeout=60, trust_env=False)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()["applications"]
        return found

    def replicas(self) -> dict[str, dict[str, int]]:
        """Application -> id of each replica that runs -> its pid."""
        return {
            name: {
                replica["replica_id"]: replica["pid"]
                for deployment in own["deployments"].values()
                for replica in deployment["replicas"]
                if replica["state"] == "RUNNING"
            }
            for name, own in self.applications().items()
        }

    def until(self, is_so: Callable[[dict[str, Any]], bool], within: float = 120) -> None:
        deadline = time.monotonic() + within
        while not is_so(found := self.applications()):
            assert time.monotonic() < deadline, json.dumps(found, indent=1)
            time.sleep(0.5)

    def until_ready(self, *names: str) -> dict[str, dict[str, int]]:
        """Until these are all applications and all run; their replicas."""
        self.until(
            lambda found: {name: own["status"] for name, own in found.items()} == dict.fromkeys(names, "RUNNING")
        )
        return self.replicas()

    def until_up(self) -> None:
        """The dashboard comes up after the rest, and the operator tries again until it does."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.applications()
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.5)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Operator]]:
    """Address of a Ray that has what the chart's head and group have, and its operator."""
    folder = tmp_path_factory.mktemp("ray")
    port, dashboard, agent = free_port(), free_port(), free_port()
    arguments = ["--head", f"--port={port}", "--num-cpus=2", '--resources={"coe-keeper": 1, "coe-cpu": 1}']
    arguments += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    with ray_node(folder / "ray.log", arguments, {"COE_HOME": str(folder / "home")}):
        operator = Operator(f"http://127.0.0.1:{dashboard}")
        operator.until_up()
        yield f"127.0.0.1:{port}", operator


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@contextmanager
def gateway(folder: Path, objects: list[Object], address: str, redis_url: str) -> Iterator[Live]:
    """A gateway with the file of a release."""
    folder.mkdir()
    config = folder / "coe.yaml"
    config.write_text(coe_yaml(objects))
    environment = {"COE_HOST": "127.0.0.1", "COE_REDIS_URL": redis_url, "RAY_ADDRESS": address, **RAY}
    with service(folder, ["--fake", "--attach", "--config", str(config)], environment, within=120) as live:
        yield live


def test_without_rays_token_nobody_deploys_and_nobody_sees_what_runs(ray: tuple[str, Operator]) -> None:
    _, operator = ray
    assert httpx.get(operator.path, timeout=60, trust_env=False).status_code == 401
    answer = httpx.put(operator.path, json=serve_config(release()), timeout=60, trust_env=False)
    assert answer.status_code == 401
    assert operator.applications() == {}


def broken(objects: list[Object]) -> list[Object]:
    """The same with a fallback that is no expert, which the chart cannot see."""
    found: list[Object] = json.loads(json.dumps(objects).replace("fallback: chat", "fallback: nobody"))
    assert found != objects
    return found


def test_a_first_configuration_that_cannot_be_used_is_told_with_its_line(ray: tuple[str, Operator]) -> None:
    _, operator = ray
    operator.put(broken(release()))
    operator.until(lambda _: operator.sees() == {"keeper": "DEPLOY_FAILED"})
    told = operator.applications()["keeper"]["deployments"]["keeper"]["message"]
    assert re.search(r"coe\.yaml:\d+: router\.fallback: .*'nobody'", told), told
    operator.put(release())
    operator.until_ready("keeper", "coe-one")


def test_experts_and_keepers_come_and_go_and_no_worker_and_no_request_does(
    tmp_path: Path, ray: tuple[str, Operator], redis_url: str
) -> None:
    address, operator = ray
    first = release()
    operator.put(first)
    before = operator.until_ready("keeper", "coe-one")
    assert (len(before["keeper"]), len(before["coe-one"])) == (1, 2)
    assert operator.sees() == {"keeper": "RUNNING"}

    with ExitStack() as stack:
        live = stack.enter_context(gateway(tmp_path / "first", first, address, redis_url))
        load = Load(live, ["chat", "auto"])
        with load.running():
            # An expert more, and a family: the operator puts it, the keeper stays, and gateways roll.
            second = release({"name": "new", "source": "/models/new", "family": "one"},
                             {"name": "sums", "source": "/models/sums", "family": "two"},
                             families={"two": {"num_cpus": 0.1, "replicas": 1}})  # fmt: skip
            operator.put(second)
            now = operator.until_ready("keeper", "coe-one", "coe-two")
            assert (now["keeper"], now["coe-one"]) == (before["keeper"], before["coe-one"])
            newer = stack.enter_context(gateway(tmp_path / "second", second, address, redis_url))
            assert [ask(newer, model).status_code for model in ("chat", "new", "sums")] == [200] * 3

            # What cannot be used changes nothing. Then the last one again.
            operator.put(broken(second))
            time.sleep(7)  # in which the keeper looks once at least
            assert operator.until_ready("keeper", "coe-one", "coe-two") == now
            operator.put(second)

            # The keeper dies.
            [(keeper, pid)] = now["keeper"].items()
            os.kill(pid, signal.SIGKILL)
            operator.until(lambda found: operator.replicas()["keeper"].keys().isdisjoint({keeper}))
            revived = operator.until_ready("keeper", "coe-one", "coe-two")
            assert len(revived["keeper"]) == 1
            assert {app: revived[app] for app in ("coe-one", "coe-two")} == {
                app: now[app] for app in ("coe-one", "coe-two")
            }

            # The new one works: a family more.
            third = release({"name": "third", "source": "/models/third"}, families={"third": {"num_cpus": 0.1}})
            operator.put(third)
            last = operator.until_ready("keeper", "coe-one", "coe-two", "coe-third")  # a former family stays a while
            assert (last["keeper"], last["coe-one"]) == (revived["keeper"], now["coe-one"])
        assert load.failures == []
        assert {model for model, _ in load.answers} == {"chat", "auto"}


@contextmanager
def redis_of_the_head(folder: Path) -> Iterator[tuple[str, str]]:
    """Address and password of a Redis that Ray can talk to, by TCP."""
    port, password = free_port(), secrets.token_hex(16)
    command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, "--requirepass", password], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, password=password) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except RedisError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        yield f"127.0.0.1:{port}", password
    finally:
        process.terminate()
        process.wait(30)


def test_a_head_that_is_lost_comes_back_with_its_keeper_and_finds_the_workers_as_they_were(tmp_path: Path) -> None:
    port, dashboard = free_port(), free_port()
    operator = Operator(f"http://127.0.0.1:{dashboard}")
    patient = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}  # as all nodes of the chart are
    with ExitStack() as stack:
        redis, password = stack.enter_context(redis_of_the_head(tmp_path))
        kept = {"RAY_REDIS_ADDRESS": redis, "RAY_external_storage_namespace": "x", "COE_HOME": str(tmp_path)}

        def head() -> AbstractContextManager[None]:
            return one_of_several(
                tmp_path / "head.log", patient | kept, gcs_server_port=port, redis_password=password, num_cpus=0,
                resources={"coe-keeper": 1}, dashboard_port=dashboard, dashboard_agent_listen_port=free_port(),
            )  # fmt: skip

        with head():
            of_workers = {"gcs_address": f"127.0.0.1:{port}", "dashboard_agent_listen_port": free_port()}
            stack.enter_context(
                one_of_several(tmp_path / "node.log", patient, num_cpus=2, resources={"coe-cpu": 1}, **of_workers)
            )
            operator.until_up()
            operator.put(release())
            before = operator.until_ready("keeper", "coe-one")
        with head():
            operator.until_up()
            operator.until(lambda found: operator.replicas()["keeper"].keys().isdisjoint(before["keeper"]))
            after = operator.until_ready("keeper", "coe-one")
            assert after["coe-one"] == before["coe-one"]
            third = release({"name": "third", "source": "/models/third"}, families={"third": {"num_cpus": 0.1}})
            operator.put(third)
            last = operator.until_ready("keeper", "coe-one", "coe-third")
            assert (last["keeper"], last["coe-one"]) == (after["keeper"], before["coe-one"])
