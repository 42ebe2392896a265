"""The peer: Ray Serve's `@serve.multiplexed` on a trace. Serve, its queue and its LRU are real, the device is emulated.

Loading and computing take the seconds that were measured on the real engine (`Costs`). In doubt the emulation favours
Serve: a load slows no other model down, and a model that is evicted while requests run on it finishes them, as if there
were memory for it. How often that was the case is counted.
"""

import asyncio
import contextlib
import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.traces import Job, Outcome, play
from orchestrator.cluster import LOCAL_ENVIRONMENT, RAY_ENVIRONMENT
from orchestrator.ray_internals import listen_on_this_node_only


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that the device takes.

    load_s: to load a model. A step of a batch takes step_s, request_s for each of its requests, at most `batch`, and
    prompt_token_s for each token of the prompts that are new in it. A step gives each request a token.
    """

    load_s: float
    step_s: float
    request_s: float
    prompt_token_s: float
    batch: int

    def step(self, requests: int, new_prompt_tokens: int) -> float:
        return self.step_s + self.request_s * requests + self.prompt_token_s * new_prompt_tokens


@dataclass(frozen=True, slots=True)
class Counts:
    """loads: of models; evicted_running: requests that ran when their model was evicted; most_models: in memory at a
    time, evicted ones that still computed included."""

    loads: int
    evicted_running: int
    most_models: int


@dataclass(slots=True, eq=False)
class _Request:
    prompt_tokens: int  # still to be computed: all of them, or 0 after the first step
    tokens_left: int
    first: float | None
    done: asyncio.Event


class _Model:
    """What Serve holds and evicts. It tells the device when Serve gives it up."""

    def __init__(self, device: "Device") -> None:
        self.device, self.requests, self.resident = device, list[_Request](), True

    async def generate(self, job: Job) -> tuple[float, float]:
        """(time of the first token, time of the last), time.monotonic()."""
        request = _Request(job.prompt_tokens, job.output_tokens, None, asyncio.Event())
        self.requests.append(request)
        self.device.woken.set()
        await request.done.wait()
        assert request.first is not None
        return request.first, time.monotonic()

    def __del__(self) -> None:
        # First Serve calls this, from a thread, when it evicts the model; later Python, when nobody holds it any more.
        if self.resident:
            self.resident = False
            self.device.evicted_running += len(self.requests)


class Device:
    """One model computes at a time: models with requests take turns, a step each, as engines on one device would."""

    def __init__(self, costs: Costs) -> None:
        self.woken = asyncio.Event()
        self.evicted_running = 0
        self._costs = costs
        self._loads = self._most_models = 0
        self._turns: deque[_Model] = deque()
        self._computing: asyncio.Task[None] | None = None

    async def load(self) -> _Model:
        if self._computing is None:
            self._computing = asyncio.create_task(self._compute())
        await asyncio.sleep(self._costs.load_s)
        self._loads += 1
        model = _Model(self)
        self._turns.append(model)
        self._turns = deque(model for model in self._turns if model.resident or model.requests)
        self._most_models = max(self._most_models, len(self._turns))
        return model

    def counts(self) -> Counts:
        """Since the last call."""
        counts = Counts(self._loads, self.evicted_running, self._most_models)
        self._loads = self.evicted_running = self._most_models = 0
        return counts

    async def _compute(self) -> None:
        while True:
            model = next((model for model in self._turns if model.requests), None)
            if model is None:
                self.woken.clear()
                await self.woken.wait()
                continue
            self._turns.remove(model)
            self._turns.append(model)
            batch = model.requests[: self._costs.batch]
            await asyncio.sleep(self._costs.step(len(batch), sum(request.prompt_tokens for request in batch)))
            now = time.monotonic()
            for request in batch:
                request.prompt_tokens = 0
                request.first = request.first or now
                request.tokens_left -= 1
                if request.tokens_left == 0:
                    model.requests.remove(request)
                    request.done.set()


def _deployment(slots: int, costs: Costs) -> Any:
    """The peer's application, as Serve's documentation has it. A class of its own: its decorators want Ray."""
    serve: Any = import_module("ray.serve")

    class Multiplexed:
        def __init__(self) -> None:
            listen_on_this_node_only()
            self._device = Device(costs)

        @serve.multiplexed(max_num_models_per_replica=slots)  # type: ignore[untyped-decorator]
        async def model(self, name: str) -> _Model:
            return await self._device.load()

        async def answer(self, job: Job) -> tuple[float, float]:
            model: _Model = await self.model(serve.get_multiplexed_model_id())
            return await model.generate(job)

        def counts(self) -> Counts:
            return self._device.counts()

    # A replica takes as many requests as fit a batch; the others wait in Serve's own queue.
    options = {"max_ongoing_requests": costs.batch, "ray_actor_options": {"num_cpus": 0}}
    return serve.deployment(Multiplexed, name="multiplexed", **options).bind()


@contextlib.contextmanager
def _local_ray() -> Iterator[Any]:
    """Ray Serve on the loopback address, for as long as the block lasts."""
    os.environ.update({key: os.environ.get(key, value) for key, value in (RAY_ENVIRONMENT | LOCAL_ENVIRONMENT).items()})

    import ray

    serve: Any = import_module("ray.serve")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})
        yield serve
    finally:
        # In throughput mode a handle's router lives in an event loop that has ended by now.
        warnings.filterwarnings("ignore", "coroutine 'AsyncioRouter.shutdown' was never awaited", RuntimeWarning)
        with contextlib.suppress(Exception):
            serve.shutdown()
        ray.shutdown()


def run(jobs: Sequence[Job], slots: int, costs: Costs, loaded: Sequence[str] = ()) -> tuple[list[Outcome], Counts]:
    """Plays a trace in real time against one replica that holds at most `slots` models. Takes a Ray of its own.

    loaded: experts whose model is loaded before the trace begins, which is not counted.
    """

    async def measure(handle: Any) -> tuple[list[Outcome], Counts]:
        async def answer(number: int, job: Job, arrival: float) -> Outcome:
            first, last = await handle.options(multiplexed_model_id=job.expert).answer.remote(job)
            return Outcome(job, first - arrival, last - arrival, job.output_tokens)

        for expert in loaded:
            await answer(0, Job(0.0, expert, 1, 1), time.monotonic())
        await handle.counts.remote()
        outcomes = await play(jobs, answer)
        return outcomes, await handle.counts.remote()

    with _local_ray() as serve:
        handle = serve.run(_deployment(slots, costs), name="multiplexed", route_prefix=None)
        return asyncio.run(measure(handle))
