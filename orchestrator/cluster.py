"""Ray Serve: how a service joins it, starts what runs there (`orchestrator.deployment`), and reaches it.

The gateway is a process of its own beside Serve, not a Serve ingress: it listens where it is told to and nowhere else,
which Serve's HAProxy mode does not allow (its statistics and metrics ports are on every interface), and saves a hop.
Requests reach the workers by channels of our own (`workers.channel`), not by Serve's handles, which cost a request 1 ms
of the gateway's CPU and as much of the worker's. Serve is asked for their addresses, and keeps them alive.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import ssl
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from experts.registry import Registry
from orchestrator.config.model import Config
from orchestrator.deployment import application, ray_tls
from orchestrator.placement.planner import Planner
from orchestrator.placing import Placing
from orchestrator.plans import Plan, check_room, families_of, plans
from orchestrator.ray_internals import target_numbers
from orchestrator.scaling import Targets
from workers.base import ChatCall, Event, WorkerStats
from workers.channel.client import Links, NoStats
from workers.channel.frames import Address
from workers.channel.together import together

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

# Read when Ray is imported and when its processes start; a running cluster wants the first ones in its environment.
RAY_ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # nothing of Serve listens for HTTP: the gateway does
    "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE": "0",  # replicas tell, also those that were there before
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without GPUs still sees them; Ray warns otherwise
}
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: Ray's processes meet on the loopback address only
    "VLLM_HOST_IP": "127.0.0.1",
}
FIND_S = 5.0
"""Serve has so long to say where an application's workers are."""

logger = logging.getLogger(__name__)


class ServeWorkers:
    """The workers of a configuration's families, which Serve keeps alive (`orchestrator.calls.Workers`).

    found: their applications. known: connections that are there, by application. placing: who tells them which experts
    live on them, where that is for this process to do. traces: see `workers.channel.frames.Hello`.
    """

    def __init__(
        self,
        found: Mapping[str, Plan],
        registry: Registry,
        known: Mapping[str, Links] = MappingProxyType({}),
        placing: Placing | None = None,
        traces: str = "",
    ) -> None:
        tls = ray_tls(ssl.Purpose.SERVER_AUTH)
        self._registry, self._placing, self._targets = registry, placing or Placing(), Targets(target_numbers)
        self._traces = traces
        self._links: dict[str, Links] = {app: known.get(app) or Links(_Finder(app), tls, traces) for app in found}
        self._new = [links for app, links in self._links.items() if app not in known]
        self._families = {app: tuple(own.family for own in families_of(plan)) for app, plan in found.items()}
        self._of_family = {family: self._links[app] for app, own in self._families.items() for family in own}

    async def open(self) -> None:
        """Connections follow from now on what Serve runs, until others are given way to."""
        for links in self._new:
            await links.__aenter__()

    def followed_by(self, found: Mapping[str, Plan], registry: Registry) -> "ServeWorkers":
        """Those of another configuration, with the connections to the same applications."""
        return ServeWorkers(found, registry, self._links, self._placing, self._traces)

    def place(self, planned: Mapping[str, Planner]) -> None:
        """Their experts live where these planners say from now on, see `orchestrator.placing.Placing.follow`."""
        self._placing.follow(planned, self._links)

    async def give_way(self, to: "ServeWorkers | None") -> None:
        """Ends the connections that `to` has not."""
        await self._targets.close()
        if to is None:
            await self._placing.close()
        for app, links in self._links.items():
            if to is None or to._links.get(app) is not links:
                await links.__aexit__()

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `orchestrator.calls.Workers.generate`."""
        return self._of_family[self._registry.get(call.expert).family_name].generate(call)

    async def stats(self) -> dict[str, WorkerStats | str]:
        """See `orchestrator.calls.Workers.stats`."""

        async def ask(app: str) -> Mapping[str, WorkerStats | str]:
            families = self._families[app]
            try:
                told = await self._links[app].stats()
            except NoStats as error:
                return dict.fromkeys(families, f"its worker does not answer: {error}")
            known = {family: [stats[family] for stats in told if family in stats] for family in families}
            wanted, totals = self._targets.of(app), self._links[app].totals
            return {
                family: replace(totals[family].put_into(together(own)), workers_wanted=wanted)
                if own
                else "its worker is being replaced by one that has it"
                for family, own in known.items()
            }

        answers = await asyncio.gather(*(ask(app) for app in self._links))
        return {family: stats for answer in answers for family, stats in answer.items()}


async def _addresses(handle: "DeploymentHandle[Any]") -> list[Address]:
    found: list[Address] = await handle.broadcast("address").results_async(timeout_s=FIND_S)
    return found


class _Finder:
    """Finds the workers of an application, as soon as it is deployed."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._handle: Any = None

    async def __call__(self) -> list[Address]:
        serve: Any = import_module("ray.serve")
        try:
            self._handle = self._handle or await asyncio.to_thread(serve.get_app_handle, self._app)
        except serve.exceptions.RayServeException:
            return []  # not deployed yet: until it is, its experts are not ready
        return await _addresses(self._handle)


@contextlib.contextmanager
def joined(address: str | None, say: Callable[[str], None]) -> Iterator[None]:
    """This process on the Ray cluster at `address`, or on a local one that lives as long as this block.

    Raises ConnectionError if the address does not answer.
    """
    wanted = RAY_ENVIRONMENT if address else RAY_ENVIRONMENT | LOCAL_ENVIRONMENT
    os.environ.update({key: os.environ.get(key, value) for key, value in wanted.items()})

    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        say("starting a local Ray")
    else:
        options["address"] = address
        say(f"joining the Ray cluster at {address}")
    ray.init(**options)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        yield
    finally:
        _forget_routers()
        ray.shutdown()


def _forget_routers() -> None:
    # In throughput mode a handle's router lives in the gateway's event loop, which has ended by now.
    warnings.filterwarnings("ignore", "coroutine 'AsyncioRouter.shutdown' was never awaited", RuntimeWarning)


class Fleet:
    """The applications of a service on the Ray cluster that this process has joined.

    found: those of its configuration. owner: this gateway, if it deploys them itself; None: `coe workers keep` does.
    is_local: on a Ray that lives on this machine for this service alone.
    """

    def __init__(self, found: Mapping[str, Plan], owner: str | None, *, is_local: bool) -> None:
        self.found, self.owner, self._is_local = dict(found), owner, is_local

    def workers(self, found: Mapping[str, Plan], registry: Registry, traces: str = "") -> ServeWorkers:
        return ServeWorkers(found, registry, traces=traces)

    def check_room(self, found: Mapping[str, Plan]) -> None:
        """Raises TooFewCores if a local Ray has no room for these."""
        import ray

        if self._is_local:
            check_room(found, ray.cluster_resources())  # type: ignore[no-untyped-call]

    def deploy(self, found: Mapping[str, Plan], drain_s: float) -> None:
        """These are the applications from now on; others are removed. It blocks, and waits for no worker.

        Those that run already go on as far as they can, see `orchestrator.deployment.application`. Somebody else's are
        left to them.
        """
        if self.owner is None:
            return
        run(found, drain_s, self.owner)
        serve: Any = import_module("ray.serve")
        for app in self.found.keys() - found.keys():
            serve.delete(app, _blocking=False)
        self.found = dict(found)


@contextlib.contextmanager
def cluster(
    config: Config, registry: Registry, home: Path, address: str | None, say: Callable[[str], None]
) -> Iterator[Fleet]:
    """Workers of its own, on the Ray cluster at `address` or on a local one, that live as long as this block.

    Raises ConnectionError if the address does not answer, TooFewCores if a local Ray has no room.
    """
    with joined(address, say):
        serve: Any = import_module("ray.serve")  # its decorators hide their types
        found = plans(config, registry, home)
        fleet = Fleet(found, secrets.token_hex(4), is_local=address is None)
        try:
            fleet.check_room(found)
            start_serve()
            for app, plan in found.items():
                serve.run(application(plan, config.limits.drain_s, fleet.owner), name=app, route_prefix=None)
            yield fleet
        finally:
            _forget_routers()
            with contextlib.suppress(Exception):
                if address is None:
                    serve.shutdown()
                else:
                    for app in fleet.found:
                        serve.delete(app)


@contextlib.contextmanager
def shared_cluster(
    config: Config, registry: Registry, home: Path, address: str, say: Callable[[str], None]
) -> Iterator[Fleet]:
    """The workers that `coe workers keep` runs on the Ray cluster at `address`, for this gateway among others.

    Raises ConnectionError if the address does not answer.
    """
    with joined(address, say):
        yield Fleet(plans(config, registry, home), None, is_local=False)


def run(found: Mapping[str, Plan], drain_s: float, owner: str | None = None) -> None:
    """Hands these applications to Serve and waits for none, as one may wait for a node that is still to come. The
    others stay. drain_s, owner: see `orchestrator.deployment.application`."""
    serve: Any = import_module("ray.serve")
    targets = [
        serve.RunTarget(application(plan, drain_s, owner), name=app, route_prefix=None) for app, plan in found.items()
    ]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def start_serve() -> None:
    """Serve on the Ray that was joined, unless it runs there already. Nothing of it listens for HTTP."""
    serve: Any = import_module("ray.serve")
    serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})
