"""Ray Serve, the only place that knows it: a deployment per family, and how the gateway reaches them.

The gateway is a process of its own beside Serve, not a Serve ingress: it listens where it is told to and nowhere else,
which Serve's HAProxy mode does not allow (its statistics and metrics ports are on every interface), and saves a hop.
"""

import asyncio
import contextlib
import logging
import os
import re
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.config.model import Config, DeviceConfig, FamilyConfig
from orchestrator.ray_internals import listen_on_this_node_only
from workers.base import ChatCall, Delta, Engine, Event, Failure, SleepingEngine, WorkerStats
from workers.batches import batches
from workers.checkpoints import problem, weight_bytes
from workers.families import Family, SharedDevice
from workers.swap_policy import SwapSettings
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
UNDER_WAY = 4096
"""Requests that a worker accepts at a time; the gateway's own limit is the one that callers meet."""


@dataclass(frozen=True)
class FamilyPlan:
    """What a worker needs to know. kind: "vllm", "remote" or "fake"; folder: for image files."""

    kind: str
    family: str
    experts: tuple[ExpertSpec, ...]
    config: FamilyConfig
    pinned: frozenset[str]
    folder: Path


@dataclass(frozen=True)
class DevicePlan:
    """The families that share a device."""

    name: str
    config: DeviceConfig
    families: tuple[FamilyPlan, ...]


def make_engine(plan: FamilyPlan) -> Engine:
    """The engine of a family."""
    if plan.kind == "remote":
        from workers.remote import RemoteEngine

        return RemoteEngine(plan.family, plan.experts)
    return _make_local_engine(plan)


def _make_local_engine(plan: FamilyPlan) -> SleepingEngine:
    if plan.kind == "fake":
        from workers.fake_engine import FakeEngine

        pace = {key: plan.config.engine_args.get(f"fake_{key}") for key in ("token_delay", "slots")}
        return FakeEngine(plan.family, plan.experts, token_delay=pace["token_delay"] or 0.0, slots=pace["slots"])
    from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings

    config, images = plan.config, plan.config.images
    return VllmEngine(
        plan.family,
        plan.experts,
        VllmSettings(
            dtype=config.effective_dtype,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            kv_cache_gib=config.kv_cache_gib,
            swap=SwapSettings(overhead=config.swap.overhead, max_wait=config.swap.max_wait_s, pinned=plan.pinned),
            strict=config.swap.strict,
            images=ImageSettings(
                device=_bytes(_device_gib(config)),
                host=_bytes(images.host_gib) or 0,
                disk=_bytes(images.disk_gib),
                folder=plan.folder if images.image_files else None,
            ),
            engine_args=config.engine_args,
            shares_device=config.device is not None,
        ),
    )


def _device_gib(config: FamilyConfig) -> float | None:
    """GiB for images on the device: on the CPU what memory_gib, if it is set, leaves for them."""
    if config.images.device_gib is None and config.memory_gib is not None and not config.num_gpus:
        return config.memory_gib - config.kv_cache_gib - config.images.host_gib
    return config.images.device_gib


def make_worker(plan: FamilyPlan) -> Worker:
    """A family, with its engine."""
    return Worker(plan.family, tuple(spec.name for spec in plan.experts), lambda: make_engine(plan))


def make_device(plan: DevicePlan) -> SharedDevice:
    """The families of a device, each with its engine."""
    turns = plan.config.swap
    families = [
        Family(
            family.family,
            tuple(spec.name for spec in family.experts),
            partial(_make_local_engine, family),
            _footprint(family),
        )
        for family in plan.families
    ]
    settings = SwapSettings(overhead=turns.overhead, max_wait=turns.max_wait_s)
    return SharedDevice(plan.name, families, settings, memory=_bytes(plan.config.memory_gib))


def _footprint(plan: FamilyPlan) -> int:
    """Bytes of its device's memory that a family takes while awake."""
    config, images = plan.config, plan.config.images
    if config.memory_gib is not None:
        return int(config.memory_gib * 2**30)
    weights = _bytes(images.device_gib)
    if weights is None:
        sources = [spec.source for spec in plan.experts if spec.kind == "checkpoint"]
        weights = sum(_weight_bytes(source, config.effective_dtype) for source in sources)
    return weights + int((config.kv_cache_gib + images.host_gib) * 2**30)


def _weight_bytes(source: str, dtype: str) -> int:
    """Bytes of a checkpoint's weights in the engine; 0 for a broken one: the engine tells what is wrong with it."""
    try:
        return weight_bytes(source, dtype) if problem(source) is None else 0
    except OSError:
        return 0


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * 2**30)


class WorkerDeployment:
    """A Serve replica: the engine of a family, or the engines of the families of a device."""

    def __init__(self, plan: FamilyPlan | DevicePlan) -> None:
        listen_on_this_node_only()
        self._worker: Worker | SharedDevice = make_device(plan) if isinstance(plan, DevicePlan) else make_worker(plan)
        self._launched = False

    def _launch(self) -> None:
        # Serve runs constructors outside the event loop that requests come on.
        if not self._launched:
            self._launched = True
            self._worker.launch()

    async def generate(self, call: ChatCall) -> AsyncGenerator[tuple[Event, ...], None]:
        """The call's events, in batches."""
        self._launch()
        async with contextlib.aclosing(batches(self._worker.generate(call), call.every)) as found:
            async for batch in found:
                yield batch

    async def stats(self) -> dict[str, WorkerStats]:
        """Family -> its stats."""
        self._launch()
        stats = await self._worker.stats()
        return stats if isinstance(stats, dict) else {stats.family: stats}

    async def check_health(self) -> None:
        self._launch()
        self._worker.check_health()

    async def __del__(self) -> None:
        await self._worker.close()


class ServeWorkers:
    """The workers of all families, through Serve handles (`orchestrator.pipeline.Workers`).

    handles: by the families that one serves.
    """

    def __init__(self, handles: "Mapping[tuple[str, ...], DeploymentHandle[Any]]", registry: Registry) -> None:
        self._replicas, self._registry = handles, registry
        self._handles = {family: handle for families, handle in handles.items() for family in families}

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import RayServeException

        family = self._registry.get(call.expert).family_name
        stream: Any = self._handles[family].options(stream=True).generate.remote(call)
        ended = False
        try:
            async for batch in stream:
                for event in batch:
                    ended = not isinstance(event, Delta)
                    yield event
        except (RayActorError, RayServeException) as error:
            ended = True
            yield Failure("engine_died", f"the worker of {call.expert} went down: {type(error).__name__}")
        finally:
            if not ended:
                stream.cancel()

    async def stats(self) -> dict[str, WorkerStats | str]:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        async def ask(families: tuple[str, ...]) -> Mapping[str, WorkerStats | str]:
            try:
                answer: dict[str, WorkerStats] = await self._replicas[families].stats.remote()
            except (RayError, RayServeException) as error:
                return dict.fromkeys(families, f"its worker does not answer: {type(error).__name__}")
            return answer

        answers = await asyncio.gather(*(ask(families) for families in self._replicas))
        return {family: stats for answer in answers for family, stats in answer.items()}


def plans(config: Config, registry: Registry, home: Path) -> dict[str, FamilyPlan | DevicePlan]:
    """Name of each Serve application -> what it serves: a family, or the families of a device."""
    alone: dict[str, FamilyPlan | DevicePlan] = {}
    sharing: dict[str, list[FamilyPlan]] = {}
    for family, experts in registry.families().items():
        own = config.family(family)
        plan = FamilyPlan(
            config.engine(family), family, experts, own, config.pinned(family), home / "images" / _file_name(family)
        )
        if own.device is None:
            alone[f"coe-{family}"] = plan
        else:
            sharing.setdefault(own.device, []).append(plan)
    return alone | {
        f"coe-device-{name}": DevicePlan(name, config.devices[name], tuple(families))
        for name, families in sharing.items()
    }


def engine_of(config: Config, registry: Registry, home: Path) -> Callable[[str], Engine]:
    """Makes the engine of a family, for use in this process, without Ray."""
    found: dict[str, FamilyPlan] = {}
    for plan in plans(config, registry, home).values():
        found |= {own.family: own for own in (plan.families if isinstance(plan, DevicePlan) else (plan,))}
    return lambda family: make_engine(found[family])


def _file_name(family: str) -> str:
    """A name of its own for the folder of each family, whatever it is called: "/data/x", "..", "a b"."""
    return re.sub(r"^\.", "%2E", quote(family, safe=""))


class TooFewCores(RuntimeError):
    """The workers want more CPU cores or GPUs than this machine gives a local Ray. Ray would wait for them for ever."""


def check_room(found: Mapping[str, FamilyPlan | DevicePlan], there: Mapping[str, float]) -> None:
    """Raises TooFewCores; there: what the local Ray has, by Ray's names CPU and GPU."""
    for key, resource, thing in (("num_cpus", "CPU", "CPU cores"), ("num_gpus", "GPU", "GPUs")):
        wanted = {app: float(getattr(plan.config, key)) for app, plan in found.items()}
        if sum(wanted.values()) > there.get(resource, 0.0) + 1e-9:
            each = ", ".join(f"{app.removeprefix('coe-')} {number:g}" for app, number in wanted.items() if number)
            raise TooFewCores(
                f"the families want {sum(wanted.values()):g} {thing} ({each}) and this machine has "
                f"{there.get(resource, 0.0):g}: lower families.<name>.{key} in coe.yaml, which may be a part of one "
                "such as 0.5, let families share a device, or name a larger Ray cluster"
            )


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
                max_ongoing_requests=UNDER_WAY,
                health_check_period_s=2,
                health_check_timeout_s=30,
                graceful_shutdown_timeout_s=20,
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
