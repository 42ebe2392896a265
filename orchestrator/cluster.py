"""Ray Serve, the only place that knows it: a deployment per family, and how the gateway reaches them.

The gateway is a process of its own beside Serve, not a Serve ingress: it listens where it is told to and nowhere else,
which Serve's HAProxy mode does not allow (its statistics and metrics ports are on every interface), and saves a hop.
Requests reach the workers by channels of our own (`workers.channel`), not by Serve's handles, which cost a request 1 ms
of the gateway's CPU and as much of the worker's. Serve is asked for their addresses, and keeps them alive.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from experts.registry import Registry
from orchestrator.config.model import Config
from orchestrator.plans import DevicePlan, FamilyPlan, check_room, make_device, make_worker, plans
from orchestrator.ray_internals import listen_on_this_node_only
from workers.base import ChatCall, Event, WorkerStats
from workers.channel.client import Links, NoStats
from workers.channel.frames import Address
from workers.channel.server import ChannelServer
from workers.channel.together import together
from workers.families import SharedDevice
from workers.worker import Worker

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

# Read when Ray is imported and when its processes start; a running cluster wants the first ones in its environment.
RAY_ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # nothing of Serve listens for HTTP: the gateway does
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without GPUs still sees them; Ray warns otherwise
}
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: Ray's processes meet on the loopback address only
    "VLLM_HOST_IP": "127.0.0.1",
}
DRAIN_S = 15.0
"""Seconds that a worker that is to end gives the calls under way; Serve gives it STOP_S in all."""
STOP_S = 20.0
STATS_S = 5.0


class WorkerDeployment:
    """A Serve replica: a worker, and the channel on which gateways reach it. Serve itself carries no request."""

    def __init__(self, plan: FamilyPlan | DevicePlan) -> None:
        from ray import serve

        listen_on_this_node_only()
        self._worker: Worker | SharedDevice = make_device(plan) if isinstance(plan, DevicePlan) else make_worker(plan)
        self._channel = ChannelServer(self, serve.get_replica_context().replica_id.unique_id)
        self._address: asyncio.Task[Address] | None = None

    async def _up(self) -> Address:
        # Serve runs constructors outside the event loop of everything else.
        if self._address is None:
            self._worker.launch()
            self._address = asyncio.create_task(self._channel.start(own_address(), ray_tls(ssl.Purpose.CLIENT_AUTH)))
        return await asyncio.shield(self._address)

    async def address(self) -> Address:
        """Where its channel listens, for `DeploymentHandle.broadcast`."""
        return await self._up()

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine.generate`."""
        return self._worker.generate(call)

    async def stats(self) -> Mapping[str, WorkerStats]:
        """Family -> its stats."""
        stats = await self._worker.stats()
        return stats if isinstance(stats, dict) else {stats.family: stats}

    async def check_health(self) -> None:
        await self._up()
        self._worker.check_health()

    async def __del__(self) -> None:
        await self._channel.close(DRAIN_S)
        await self._worker.close()


class ServeWorkers:
    """The workers of all families that Serve keeps alive (`orchestrator.calls.Workers`). Use it as a context.

    handles: by the families that one serves.
    """

    def __init__(self, handles: "Mapping[tuple[str, ...], DeploymentHandle[Any]]", registry: Registry) -> None:
        tls = ray_tls(ssl.Purpose.SERVER_AUTH)
        self._registry = registry
        self._links = {families: Links(partial(_addresses, handle), tls) for families, handle in handles.items()}
        self._of_family = {family: links for families, links in self._links.items() for family in families}

    async def __aenter__(self) -> Self:
        for links in self._links.values():
            await links.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for links in self._links.values():
            await links.__aexit__()

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `orchestrator.calls.Workers.generate`."""
        return self._of_family[self._registry.get(call.expert).family_name].generate(call)

    async def stats(self) -> dict[str, WorkerStats | str]:
        """See `orchestrator.calls.Workers.stats`."""

        async def ask(families: tuple[str, ...]) -> Mapping[str, WorkerStats | str]:
            try:
                async with asyncio.timeout(STATS_S):
                    told = await self._links[families].stats()
            except NoStats as error:
                return dict.fromkeys(families, f"its worker does not answer: {error}")
            except TimeoutError:
                return dict.fromkeys(families, f"its worker does not answer within {STATS_S:g} s")
            return {family: together([stats[family] for stats in told if family in stats]) for family in families}

        answers = await asyncio.gather(*(ask(families) for families in self._links))
        return {family: stats for answer in answers for family, stats in answer.items()}


async def _addresses(handle: "DeploymentHandle[Any]") -> list[Address]:
    found: list[Address] = await handle.broadcast("address").results_async(timeout_s=STATS_S)
    return found


def own_address() -> str:
    """The address at which Ray's other nodes reach this one: loopback on a Ray that lives on one machine."""
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def ray_tls(purpose: ssl.Purpose) -> ssl.SSLContext | None:
    """Where Ray's own connections use TLS, by its variables, the channels between gateway and workers use it too."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    context = ssl.create_default_context(purpose, cafile=os.environ["RAY_TLS_CA_CERT"])
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def cluster(
    config: Config, registry: Registry, home: Path, address: str | None, say: Callable[[str], None]
) -> Iterator[ServeWorkers]:
    """The workers of `config`, on the Ray cluster at `address` or on one that lives as long as this block.

    Raises ConnectionError if the address does not answer, TooFewCores if a local Ray has no room.
    """
    wanted = RAY_ENVIRONMENT if address else RAY_ENVIRONMENT | LOCAL_ENVIRONMENT
    os.environ.update({key: os.environ.get(key, value) for key, value in wanted.items()})

    import ray

    serve: Any = import_module("ray.serve")  # its decorators hide their types
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        say("starting a local Ray")
    else:
        options["address"] = address
        say(f"joining the Ray cluster at {address}")
    ray.init(**options)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    found = plans(config, registry, home)
    try:
        if address is None:
            check_room(found, ray.cluster_resources())  # type: ignore[no-untyped-call]
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})
        handles = {}
        for app, plan in found.items():
            deployment = serve.deployment(
                WorkerDeployment,
                name="worker",
                health_check_period_s=2,
                health_check_timeout_s=30,
                graceful_shutdown_timeout_s=STOP_S,
                ray_actor_options={"num_cpus": plan.config.num_cpus, "num_gpus": plan.config.num_gpus},
            ).bind(plan)
            families = plan.families if isinstance(plan, DevicePlan) else (plan,)
            handles[tuple(own.family for own in families)] = serve.run(deployment, name=app, route_prefix=None)
        yield ServeWorkers(handles, registry)
    finally:
        # In throughput mode a handle's router lives in the gateway's event loop, which has ended by now.
        warnings.filterwarnings("ignore", "coroutine 'AsyncioRouter.shutdown' was never awaited", RuntimeWarning)
        with contextlib.suppress(Exception):
            if address is None:
                serve.shutdown()
            else:
                for app in found:
                    serve.delete(app)
        ray.shutdown()
