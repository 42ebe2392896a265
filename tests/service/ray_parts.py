"""A Ray cluster of one node and a Redis for tests of the whole service, and what is done there by hand."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks.live import ROOT, Live, free_port

RAY = {
    # Else Ray takes 127.0.0.1 for the machine's own address. It keeps a node, of which there is but one, on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""What every process of the cluster has in its environment; on Kubernetes the token comes from a secret."""


@contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    """Address of a cluster of one node, with two cores and the resource `marked`."""
    port = free_port()
    more = ["--num-cpus=2", '--resources={"marked": 1}', "--include-dashboard=false"]
    with ray_node(folder / "ray.log", ["--head", f"--port={port}", *more]):
        yield f"127.0.0.1:{port}"


@contextmanager
def ray_node(log: Path, arguments: Sequence[str], more: Mapping[str, str] | None = None) -> Iterator[None]:
    """A node of a Ray cluster on loopback, by `ray start`, which runs by the time that this yields. more: variables of
    its own. At the end it is stopped, with all its processes."""
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    # Ports that another cluster on this machine does not take too.
    ports = ["--min-worker-port=0", "--max-worker-port=0", f"--ray-client-server-port={free_port()}"]
    with _running([*ray, *arguments, *ports, "--object-store-memory=100000000", "--block"], log, more or {}):
        yield


_NODE = """
import json, sys, threading
from ray._private.node import Node
from ray._private.parameter import RayParams

own = {"node_ip_address": "127.0.0.1", "num_gpus": 0, "object_store_memory": 100_000_000, "include_log_monitor": False}
own |= {"min_worker_port": 0, "max_worker_port": 0}
own |= json.loads(sys.argv[1])
node = Node(RayParams(**own), head="gcs_address" not in own, shutdown_at_exit=True, spawn_reaper=True)
print("Ray runtime started", flush=True)
threading.Event().wait()
"""


@contextmanager
def one_of_several(log: Path, more: Mapping[str, str], **own: object) -> Iterator[None]:
    """A node of a cluster on loopback that has several, which `ray start` does not let meet there. own: what Ray calls
    its parameters; with `gcs_address` it joins that cluster, without it is a head. more: see `ray_node`."""
    with _running([sys.executable, "-c", _NODE, json.dumps(own)], log, more):
        yield


@contextmanager
def _running(command: Sequence[str], log: Path, more: Mapping[str, str]) -> Iterator[None]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COE_", "RAY_"))}
    own = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0", "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment | RAY | own | dict(more), stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(live: Live, model: str, **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    headers = {"Authorization": f"Bearer {live.key}"}
    return httpx.post(f"{live.base_url}/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)


def in_cluster(ray_address: str, code: str) -> str:
    """What this code prints in a process that has joined the cluster."""
    joined = "import ray, sys\nray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
    return subprocess.run(
        [sys.executable, "-c", joined + code, ray_address],
        cwd=ROOT, env={**os.environ, **RAY}, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
