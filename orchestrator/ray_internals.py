"""The one place that touches Ray's internals; ``tests/orchestrator/test_ray_contract.py`` fails when they change."""

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
