"""Ray Serve, the only place that knows it: a deployment per family, and how the gateway reaches them.

The gateway is a process of its own beside Serve, not a Serve ingress: it listens where it is told to and nowhere else,
which Serve's HAProxy mode does not allow (its statistics and metrics ports are on every interface), and saves a hop.
"""

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.config import Config, FamilyConfig
from orchestrator.ray_internals import listen_on_this_node_only
from workers.base import ChatCall, Delta, Engine, Event, Failure, WorkerStats
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


def make_engine(kind: str, family: str, experts: tuple[ExpertSpec, ...], config: FamilyConfig) -> Engine:
    """The engine of a family. `kind` is "vllm", "remote" or "fake"."""
    if kind == "fake":
        from workers.fake_engine import FakeEngine

        return FakeEngine(family, experts)
    if kind == "remote":
        from workers.remote import RemoteEngine

        return RemoteEngine(family, experts)
    from workers.swap_policy import SwapSettings
    from workers.vllm_engine import VllmEngine, VllmSettings

    return VllmEngine(
        family,
        experts,
        VllmSettings(
            dtype=config.effective_dtype,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            kv_cache_gib=config.kv_cache_gib,
            swap=SwapSettings(overhead=config.swap.overhead, max_wait=config.swap.max_wait_s),
            engine_args=config.engine_args,
        ),
    )


class WorkerDeployment:
    """A Serve replica: a `Worker` for one family."""

    def __init__(self, kind: str, family: str, experts: tuple[ExpertSpec, ...], config: FamilyConfig) -> None:
        listen_on_this_node_only()
        names = tuple(spec.name for spec in experts)
        self._worker = Worker(family, names, lambda: make_engine(kind, family, experts, config))
        self._launched = False

    def _launch(self) -> None:
        # Serve runs constructors outside the event loop that requests come on.
        if not self._launched:
            self._launched = True
            self._worker.launch()

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        self._launch()
        async with contextlib.aclosing(self._worker.generate(call)) as events:
            async for event in events:
                yield event

    async def stats(self) -> WorkerStats:
        self._launch()
        return await self._worker.stats()

    async def check_health(self) -> None:
        self._launch()
        self._worker.check_health()

    async def __del__(self) -> None:
        await self._worker.close()


class ServeWorkers:
    """The workers of all families, through Serve handles (`orchestrator.pipeline.Workers`)."""

    def __init__(self, handles: "dict[str, DeploymentHandle[Any]]", registry: Registry) -> None:
        self._handles, self._registry = handles, registry

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import RayServeException

        family = self._registry.get(call.expert).family_name
        stream: Any = self._handles[family].options(stream=True).generate.remote(call)
        ended = False
        try:
            async for event in stream:
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

        async def ask(family: str) -> WorkerStats | str:
            try:
                answer: WorkerStats = await self._handles[family].stats.remote()
            except (RayError, RayServeException) as error:
                return f"its worker does not answer: {type(error).__name__}"
            return answer

        answers = await asyncio.gather(*(ask(family) for family in self._handles))
        return dict(zip(self._handles, answers, strict=True))


@contextlib.contextmanager
def cluster(
    config: Config, registry: Registry, address: str | None, say: Callable[[str], None]
) -> Iterator[ServeWorkers]:
    """The workers of `config`, on the Ray cluster at `address` or on one that lives as long as this block.

    Raises ConnectionError if the address does not answer.
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
    try:
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})
        handles = {}
        for family, experts in registry.families().items():
            own = config.family(family)
            deployment = serve.deployment(
                WorkerDeployment,
                name="worker",
                max_ongoing_requests=UNDER_WAY,
                health_check_period_s=2,
                health_check_timeout_s=30,
                graceful_shutdown_timeout_s=20,
                ray_actor_options={"num_cpus": own.num_cpus, "num_gpus": own.num_gpus},
            ).bind(config.engine(family), family, experts, own)
            handles[family] = serve.run(deployment, name=f"coe-{family}", route_prefix=None)
        yield ServeWorkers(handles, registry)
    finally:
        # In throughput mode a handle's router lives in the gateway's event loop, which has ended by now.
        warnings.filterwarnings("ignore", "coroutine 'AsyncioRouter.shutdown' was never awaited", RuntimeWarning)
        with contextlib.suppress(Exception):
            if address is None:
                serve.shutdown()
            else:
                for family in registry.families():
                    serve.delete(f"coe-{family}")
        ray.shutdown()
