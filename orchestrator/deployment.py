"""What runs in Serve: a deployment for each family, or device, whose replicas are its workers."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.events import READY_TIERS
from orchestrator.plans import DevicePlan, Plan, families_of, make_device, make_worker, version
from orchestrator.ray_internals import listen_on_this_node_only, of_version
from orchestrator.rosters import Served, pack, unpack
from orchestrator.scaling import Recorder, serve_number
from workers.base import ChatCall, Event, WorkerStats
from workers.channel.frames import Address
from workers.channel.server import ChannelServer
from workers.families import SharedDevice
from workers.worker import Worker

WORKERS_MORE_S = 5.0
"""Seconds that a worker which is to end gives the calls under way beyond what a gateway gives them, and Serve beyond
that before it ends the worker by force."""

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
