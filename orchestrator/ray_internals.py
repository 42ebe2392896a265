"""The one place that touches Ray's internals; ``tests/orchestrator/test_ray_contract.py`` fails when they change."""

import sys
import time
from importlib import import_module
from typing import Any

GRPC_PORT = "add_port_to_grpc_server"
"""The function by which a replica binds its gRPC server, as ``ray.serve._private.replica`` names it."""


def listen_on_this_node_only() -> None:
    """Call in a Serve replica's constructor. Its inter-deployment gRPC server then listens on the node's own address.

    Serve (2.60) binds that server to every interface, even on a Ray that lives on loopback, and what reaches it is
    unpickled. The server starts after the constructor, through the name that is replaced here.
    """
    import ray
    from ray.serve._private import replica

    original = vars(replica)[GRPC_PORT]
    if getattr(original, "of_this_node", False):
        return

    def add_port(server: object, address: str) -> int:
        host, _, port = address.rpartition(":")
        if host in ("[::]", "0.0.0.0"):  # noqa: S104  # recognised, not bound to
            own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            address = f"{own}:{port}"
        bound: int = original(server, address)
        return bound

    add_port.of_this_node = True  # type: ignore[attr-defined]
    setattr(replica, GRPC_PORT, add_port)


def of_version(deployment: Any, version: str) -> Any:
    """The Serve deployment, which is left as it runs where one of that version runs already.

    Serve (2.60) tells by the version whether replicas are to be replaced. Its public functions no longer take one, and
    it then makes up a new one each time: to deploy again, with nothing changed, would restart every engine.
    """
    deployment._version = version
    return deployment


def drain_node(address: str, node: str, within_s: float) -> None:
    """Tells Ray that this node will be gone in so many seconds: Serve then moves its replicas, and places none on it.

    node: its id as hex digits. What Ray's hidden command `ray drain-node` does. Raises RuntimeError if Ray refuses.
    """
    # Both are made as Ray is built, so that no checker of types sees them.
    client: Any = vars(import_module("ray._raylet"))["GcsClient"](address=address)
    reasons: Any = vars(import_module("ray.core.generated.autoscaler_pb2"))["DrainNodeReason"]
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + within_s) * 1000)
    taken, why = client.drain_node(node, reason, "the pod is to end", deadline_ms)
    if not taken:
        raise RuntimeError(f"Ray does not let the node {node} go: {why}")


def replicas_on(node: str) -> list[str]:
    """The Serve replicas on a node of the Ray that this process has joined; none where Serve does not run."""
    from ray.serve._private.api import _get_global_client  # type: ignore[attr-defined]

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return []
    return [
        replica["replica_id"]
        for app in client.get_serve_details()["applications"].values()
        for deployment in app["deployments"].values()
        for replica in deployment["replicas"]
        if replica.get("node_id") == node  # one that is still to be placed has none
    ]


def target_numbers() -> dict[str, int]:
    """Serve application -> replicas that its deployments are to have by now, of the Ray that this process has joined;
    none where Serve does not run."""
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():  # else Serve would start one
        return {}
    from ray.serve._private.api import _get_global_client  # type: ignore[attr-defined]

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {}
    return {
        name: sum(deployment["target_num_replicas"] for deployment in app["deployments"].values())
        for name, app in client.get_serve_details()["applications"].items()
    }
