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
import secrets
import ssl
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from experts.registry import Registry
from orchestrator.config.model import Config
from orchestrator.events import READY_TIERS
from orchestrator.placement.planner import Planner
from orchestrator.placing import Placing
from orchestrator.plans import DevicePlan, Plan, check_room, families_of, make_device, make_worker, plans, version
from orchestrator.ray_internals import listen_on_this_node_only, of_version, target_numbers
from orchestrator.rosters import Served, pack, unpack
from orchestrator.scaling import Recorder, Targets, serve_number
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
    "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE": "0",  # replicas tell, also those that were there before
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without GPUs still sees them; Ray warns otherwise
}
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: Ray's processes meet on the loopback address only
    "VLLM_HOST_IP": "127.0.0.1",
}
WORKERS_MORE_S = 5.0
"""Seconds that a worker which is to end gives the calls under way beyond what a gateway gives them, and Serve beyond
that before it ends the worker by force."""
STATS_S = 5.0

logger = logging.getLogger(__name__)


class WorkerDeployment:
    """A Serve replica: a worker, and the channel on which gateways reach it. Serve itself carries no request.

    drain_s: seconds that calls under way have to end when it is told to. loads_first: is it up for Serve only when its
    experts are loaded? Then Serve, where it replaces one worker after the other, waits for each; but nobody is told how
    far it is meanwhile.
    """

    def __init__(self, plan: Plan, drain_s: float, loads_first: bool) -> None:
        from ray import serve

        listen_on_this_node_only()
        self._drain_s, self._loads_first = drain_s, loads_first
        self._loading = loading_file()
        self._worker: Worker | SharedDevice = make_device(plan) if isinstance(plan, DevicePlan) else make_worker(plan)
        self._channel = ChannelServer(self, serve.get_replica_context().replica_id.unique_id)
        self._address: asyncio.Task[Address] | None = None
        self._recorder = Recorder(min(own.config.max_num_seqs for own in families_of(plan)))

    async def _up(self) -> Address:
        # Serve runs constructors outside the event loop of everything else.
        if self._address is None:
            self._worker.launch()
            self._address = asyncio.create_task(self._channel.start(own_address(), ray_tls(ssl.Purpose.CLIENT_AUTH)))
        return await asyncio.shield(self._address)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve calls it with what `orchestrator.rosters` packed, before the first check of health and whenever that
        changes. It returns at once, as Serve asks nothing else of a worker meanwhile; and an exception would end it."""
        try:
            follow(self._worker, unpack(user_config))
        except Exception:
            logger.exception("a worker keeps its experts: it cannot read others")

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

    def live(self, experts: Sequence[str]) -> None:
        """See `workers.worker.Worker.live`."""
        self._worker.live(experts)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve asks now and then, where the number of workers is for the load to decide. Nothing while it loads."""
        stats = await self.stats()
        if not is_loaded(stats):
            return {}
        return self._recorder.record(self._channel.waits(), self._channel.worked(), stats, time.monotonic())

    async def check_health(self) -> None:
        await self._up()
        if self._loads_first:  # Serve asks for the first time before a replica is up, and waits as long as that takes
            await until_loaded(self.stats, self._worker.check_health)
            self._loads_first = False
        if self._loading is not None and is_loaded(await self.stats()):
            self._loading.unlink(missing_ok=True)
            self._loading = None
        self._worker.check_health()

    async def __del__(self) -> None:
        await self._channel.close(self._drain_s)
        await self._worker.close()


def follow(worker: Worker | SharedDevice, told: Mapping[str, Served]) -> None:
    """Lets a worker serve what it is told of each of its families."""
    for family, served in told.items():
        if isinstance(worker, SharedDevice):
            worker.adopt(family, served.roster, served.bytes)
        else:
            worker.adopt(served.roster)


def loading_file() -> Path | None:
    """A file that is there while this process loads its experts, for who asks whether a pod's workers are ready.

    It lies in COE_LOADING_FOLDER, if that is set, and is called as the process is numbered, so that one which was left
    behind by a dead process is told from others.
    """
    folder = os.environ.get("COE_LOADING_FOLDER")
    if not folder:
        return None
    file = Path(folder) / str(os.getpid())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def is_loaded(stats: Mapping[str, WorkerStats]) -> bool:
    """Can every expert answer, or will it not by waiting?"""
    tiers = [tier for own in stats.values() for tier in own.tiers.values()]
    return all(tier in READY_TIERS or tier.startswith("failed") for tier in tiers)


async def until_loaded(
    stats: Callable[[], Awaitable[Mapping[str, WorkerStats]]], check: Callable[[], None], every: float = 0.5
) -> None:
    """Returns once what `stats` tells is loaded, which is asked every so many seconds. Raises what `check` raises."""
    while not is_loaded(await stats()):
        check()
        await asyncio.sleep(every)


class ServeWorkers:
    """The workers of a configuration's families, which Serve keeps alive (`orchestrator.calls.Workers`).

    found: their applications. known: connections that are there, by application. placing: who tells them which experts
    live on them, where that is for this process to do.
    """

    def __init__(
        self,
        found: Mapping[str, Plan],
        registry: Registry,
        known: Mapping[str, Links] = MappingProxyType({}),
        placing: Placing | None = None,
    ) -> None:
        tls = ray_tls(ssl.Purpose.SERVER_AUTH)
        self._registry, self._placing, self._targets = registry, placing or Placing(), Targets(target_numbers)
        self._links: dict[str, Links] = {app: known.get(app) or Links(_Finder(app), tls) for app in found}
        self._new = [links for app, links in self._links.items() if app not in known]
        self._families = {app: tuple(own.family for own in families_of(plan)) for app, plan in found.items()}
        self._of_family = {family: self._links[app] for app, own in self._families.items() for family in own}

    async def open(self) -> None:
        """Connections follow from now on what Serve runs, until others are given way to."""
        for links in self._new:
            await links.__aenter__()

    def followed_by(self, found: Mapping[str, Plan], registry: Registry) -> "ServeWorkers":
        """Those of another configuration, with the connections to the same applications."""
        return ServeWorkers(found, registry, self._links, self._placing)

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
                async with asyncio.timeout(STATS_S):
                    told = await self._links[app].stats()
            except NoStats as error:
                return dict.fromkeys(families, f"its worker does not answer: {error}")
            except TimeoutError:
                return dict.fromkeys(families, f"its worker does not answer within {STATS_S:g} s")
            known = {family: [stats[family] for stats in told if family in stats] for family in families}
            wanted = self._targets.of(app)
            return {
                family: replace(together(own), workers_wanted=wanted)
                if own
                else "its worker is being replaced by one that has it"
                for family, own in known.items()
            }

        answers = await asyncio.gather(*(ask(app) for app in self._links))
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

    def workers(self, found: Mapping[str, Plan], registry: Registry) -> ServeWorkers:
        return ServeWorkers(found, registry)

    def check_room(self, found: Mapping[str, Plan]) -> None:
        """Raises TooFewCores if a local Ray has no room for these."""
        import ray

        if self._is_local:
            check_room(found, ray.cluster_resources())  # type: ignore[no-untyped-call]

    def deploy(self, found: Mapping[str, Plan], drain_s: float) -> None:
        """These are the applications from now on; others are removed. Those that run already go on as far as they can,
        see `application`. It blocks, and waits for no worker. Somebody else's are left to them."""
        if self.owner is None:
            return
        serve: Any = import_module("ray.serve")
        targets = [
            serve.RunTarget(application(plan, drain_s, self.owner), name=app, route_prefix=None)
            for app, plan in found.items()
        ]
        serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
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


def start_serve() -> None:
    """Serve on the Ray that was joined, unless it runs there already. Nothing of it listens for HTTP."""
    serve: Any = import_module("ray.serve")
    serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})


def application(plan: Plan, drain_s: float, owner: str | None = None) -> Any:
    """What Serve runs for a plan. Replicas of the same version and owner are left as they run, and told of their
    experts.

    drain_s: seconds that a gateway gives what is under way. owner: the one gateway whose they are; None = shared.
    """
    serve: Any = import_module("ray.serve")
    place = plan.config
    deployment = serve.deployment(
        WorkerDeployment,
        name="worker",
        **serve_number(place),
        health_check_period_s=2,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=drain_s + 2 * WORKERS_MORE_S,
        user_config=pack(plan),
        ray_actor_options={
            "num_cpus": place.num_cpus,
            "num_gpus": place.num_gpus,
            "resources": dict(place.resources),
        },
    )
    of_this = of_version(deployment, f"{version(plan)}{owner or ''}")
    return of_this.bind(plan, drain_s + WORKERS_MORE_S, owner is None)
