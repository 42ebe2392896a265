"""A service of several nodes on this machine, whose parts can be killed: Redis, Ray, `coe workers keep`, two gateways.

    load -> relay -> gateway 0, gateway 1 -> replicas on node 0, node 1      (fake engines, each with a child process)
                         '-> relay -> Redis, on the disk that can be filled

Ray's head runs Serve's controller and no replica. Where it may be done, node 1 has a network of its own.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.faults.clock import Clock
from benchmarks.faults.machine import HERE, THERE, Disk, Network
from benchmarks.faults.programs import Program
from benchmarks.faults.relays import Relays
from benchmarks.live import ROOT, free_port
from orchestrator.embedded_redis import server_binary

EXPERTS = {"chat": "one", "sums": "one", "code": "two", "verse": "two"}
"""Expert -> family. The first one answers `auto`."""
REPLICAS = {"coe-one": 2, "coe-two": 1}
"""Serve application -> replicas; those of `one` are on different nodes."""
CONFIG = """
experts:
%s
router: {kind: fixed, fallback: chat}
families:
  one: {num_cpus: 0.1, replicas: 2, resources: {one: 1}, engine_args: {fake_token_delay: %g, fake_process: true}}
  two: {num_cpus: 0.1, replicas: 1, resources: {two: 1}, engine_args: {fake_token_delay: %g, fake_process: true}}
limits:
  timeout_s: 60
  drain_s: 5
  per_key: {requests_per_minute: 1000000, concurrent: 1000}
batch: {lease_s: 5, block: 32}
"""
TOKEN_S = 0.03
START_S = 300.0
FRESH_S = 15.0
"""So old what Serve said of its replicas may be."""
RAY_ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_enable_worker_prestart": "0",  # no process that nobody has asked for
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",  # else replicas starve behind whatever else this machine does
}
MEMORY = 80 << 20
"""Bytes of each node's object store, in which nothing is put."""
MIB = 384
"""Of the disk that is filled."""


class NotUp(RuntimeError):
    """The service did not come up, or did not come back. The message says what is missing."""


@dataclass
class Node:
    """A node of Ray beside the head. is_far: has it a network of its own? own: Ray's object, None while it is away."""

    number: int
    is_far: bool
    clock: Clock
    own: Any = None

    @property
    def raylet(self) -> int:
        pid: int = self.own.all_processes["raylet"][0].process.pid
        return pid


@dataclass
class World:
    """cannot: what cannot be done here (network, disk) -> why.

    downs: when a gateway that we killed was away: from and to, in monotonic seconds. away: those that are now, by
    number, with the time since when.
    """

    folder: Path
    relays: Relays
    network: Network | None
    disk: Disk | None
    cannot: dict[str, str]
    key: str
    nodes: list[Node] = field(default_factory=list)
    gateways: list[Program] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)  # of the gateways
    keeper: Program | None = None
    redis: Program | None = None
    eye: Program | None = None
    cluster: Any = None
    token_s: float = TOKEN_S
    downs: list[tuple[float, float]] = field(default_factory=list)
    away: dict[int, float] = field(default_factory=dict)

    # What is there

    @property
    def address(self) -> str:
        address: str = self.cluster.address
        return address

    @property
    def programs(self) -> list[Program]:
        return [own for own in (self.redis, self.keeper, self.eye, *self.gateways) if own is not None]

    @property
    def data(self) -> Path:
        """What the service writes: files of batches, Redis."""
        return self.folder / "data"

    def processes(self, name: str) -> list[int]:
        """Of ours, with this in their command line."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found

    def replicas(self, node: Node | None = None) -> list[int]:
        """Process ids of the workers, of all nodes or of one."""
        found = self.processes("ServeReplica:coe-")
        return [pid for pid in found if node is None or parent(pid) == node.raylet]

    # Looking after it

    def tend(self) -> None:
        """Starts again what has ended. To be called often."""
        for program in self.programs:
            program.tend()
        for number, port in enumerate(self.ports):
            if number in self.away and _listens(port):
                self.downs.append((self.away[number], time.monotonic() + 1))
                del self.away[number]

    def kill_gateway(self, number: int) -> int:
        """By force. Connections that break until it listens again, and a second longer, are told by that."""
        self.away[number] = time.monotonic()
        return self.gateways[number].kill()

    def was_down(self, began: float, ended: float) -> bool:
        """Was a gateway that we have killed not back yet, at any time between these two?"""
        away = [(own, float("inf")) for own in tuple(self.away.values())]
        return any(own_began <= ended and began <= own_ended for own_began, own_ended in (*self.downs, *away))

    def missing(self, since: float = 0.0) -> str | None:
        """What is not as it should be; None if the service is whole. since: what Serve said before that Unix time does
        not count."""
        for program in self.programs:
            if program.pid is None:
                return f"{program.name} does not run"
        for node in self.nodes:
            if node.own is None or not psutil.pid_exists(node.raylet):
                return f"node {node.number} is away"
        told = self._told(since)
        if "replicas" not in told:
            return f"Serve does not tell: {told.get('error')}"
        for app, wanted in REPLICAS.items():
            up = [own for own in told["replicas"] if own["app"] == app and own["state"] == "RUNNING"]
            alive = [own for own in up if own["pid"] and psutil.pid_exists(own["pid"])]
            if not len(alive) == len(up) == wanted:
                return f"{app} has {len(alive)} of {wanted} replicas"
        for port in self.ports:
            for expert in EXPERTS:
                if (why := self._problem(port, expert)) is not None:
                    return f"gateway at {port}, {expert}: {why}"
        return None

    def _problem(self, port: int, expert: str) -> str | None:
        """Does this gateway have that expert answer?"""
        body = {"model": expert, "max_tokens": 1, "messages": [{"role": "user", "content": "probe"}]}
        headers = {"Authorization": f"Bearer {self.key}", "x-coe-timeout-s": "2"}
        try:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            answer = httpx.post(url, json=body, headers=headers, timeout=4, trust_env=False)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if answer.status_code == 200 else answer.text[:200]

    def _told(self, since: float) -> dict[str, Any]:
        """The eye's last word, if it is fresh."""
        assert self.eye is not None
        with contextlib.suppress(OSError, ValueError, IndexError):
            if self.eye.log.stat().st_mtime >= max(since, time.time() - FRESH_S):
                with self.eye.log.open("rb") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                    found: dict[str, Any] = json.loads(file.read().splitlines()[-1])
                    return found
        return {"error": "the eye is blind"}

    def until_whole(self, within_s: float) -> float:
        """Seconds that it took, by what is known from now on. Raises NotUp."""
        began, since = time.monotonic(), time.time()
        while (missing := self.missing(since)) is not None:
            if time.monotonic() - began > within_s:
                raise NotUp(f"after {within_s:.0f} s {missing}")
            self.tend()
            time.sleep(0.2)
        return time.monotonic() - began

    # Nodes

    def add_node(self, node: Node) -> None:
        with contextlib.ExitStack() as stack:
            if node.is_far:
                assert self.network is not None
                stack.enter_context(self.network.there())
            stack.enter_context(_environment(node.clock.environment(ROOT)))
            node.own = self.cluster.add_node(
                node_ip_address=THERE if node.is_far else self._ip,
                num_cpus=1,
                resources=dict.fromkeys(EXPERTS.values(), 1),
                object_store_memory=MEMORY,
                wait=False,
            )

    def remove_node(self, node: Node) -> None:
        """All that is left of it, by force."""
        replicas = self.replicas(node) if psutil.pid_exists(node.raylet) else []
        self.cluster.remove_node(node.own, allow_graceful=False)
        for pid in replicas:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
        node.own = None

    @property
    def _ip(self) -> str:
        return HERE if self.network else "127.0.0.1"

    # Starting and ending

    def start(self) -> None:
        self._start_redis()
        self._start_ray()
        self._write_config()
        self.keeper = self._coe("keeper", {}, "workers", "keep", "--fake", "--alive", str(self.folder / "alive"))
        for number in range(2):
            clock = Clock(self.folder / f"gateway{number}.clock")
            port = free_port()
            more = {"COE_PORT": str(port), "COE_REDIS_URL": f"unix://{self.relays.redis_socket}"}
            own = self._coe(f"gateway{number}", {**more, **clock.environment(ROOT)}, "serve", "--fake", "--attach")
            self.gateways.append(own)
            self.ports.append(port)
            self.clocks.append(clock)
        eye = [sys.executable, "-m", "benchmarks.faults.eye", self.address]
        self.eye = Program("eye", eye, os.environ, self.folder / "eye.log")
        for program in (self.keeper, *self.gateways, self.eye):
            program.start()
        self.relays.start_gateways(self.ports)
        self.until_whole(START_S)

    def _write_config(self) -> None:
        experts = [f"  - {{name: {name}, source: /models/{name}, family: {own}}}" for name, own in EXPERTS.items()]
        text = CONFIG % ("\n".join(experts), self.token_s, self.token_s)
        (self.folder / "coe.yaml").write_text(text)

    def change_config(self) -> None:
        """Another pace of the engines, so that their workers are to be replaced."""
        self.token_s = TOKEN_S if self.token_s != TOKEN_S else TOKEN_S * 1.05
        self._write_config()
        assert self.keeper is not None
        self.keeper.kill()
        self.keeper.start()

    def _coe(self, name: str, more: dict[str, str], *arguments: str) -> Program:
        command = [sys.executable, "-m", "orchestrator.cli", *arguments, "--config", str(self.folder / "coe.yaml")]
        own = {"COE_HOME": str(self.data), "COE_API_KEY": self.key, "RAY_ADDRESS": self.address}
        return Program(name, command, {**os.environ, **own, **more}, self.folder / f"{name}.log")

    def _start_redis(self) -> None:
        folder = self.data / "redis-server"
        folder.mkdir(parents=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.redis_socket),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "auto-aof-rewrite-min-size": "16mb",
        }
        command = [str(server_binary()), *(part for key, value in settings.items() for part in (f"--{key}", value))]
        self.redis = Program("redis", command, os.environ, self.folder / "redis.log")
        self.redis.start()
        self.relays.start_redis()

    @property
    def redis_socket(self) -> Path:
        return self.folder / "redis.sock"

    def _start_ray(self) -> None:
        from ray.cluster_utils import Cluster

        head = Clock(self.folder / "head.clock")
        with _environment(head.environment(ROOT)):
            self.cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "node_ip_address": self._ip,
                    "gcs_server_port": free_port(),
                    "num_cpus": 0,
                    "include_dashboard": False,
                    "include_log_monitor": False,
                    "no_monitor": True,
                    "object_store_memory": MEMORY,
                    "temp_dir": str(self.folder / "ray"),
                },
            )
        for number in range(2):
            is_far = number == 1 and self.network is not None
            node = Node(number, is_far, Clock(self.folder / f"node{number}.clock"))
            self.add_node(node)
            self.nodes.append(node)

    def end(self) -> None:
        for program in reversed([own for own in self.programs if own is not self.redis]):
            program.stop()
        if self.cluster is not None:
            self.cluster.shutdown()
        if self.redis is not None:
            self.redis.stop()
        self.relays.stop()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def parent(pid: int) -> int | None:
    try:
        found: int = psutil.Process(pid).ppid()
    except psutil.Error:
        return None
    return found


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """What this process starts meanwhile has these variables."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
