"""Everything of vLLM's internals that we touch: one engine serves all experts of a family.

The scheduler shows vLLM one expert's requests at a time and stamps the step with that expert; the worker makes the
stamped expert's image the active one before it computes. Requests of the other experts keep their KV blocks meanwhile.
vLLM is pinned; ``tests/workers/test_vllm_contract.py`` fails when something used here changes.
"""

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.logger import init_logger
from vllm.model_executor.model_loader import get_model
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import RequestQueue, SchedulingPolicy, create_request_queue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from workers.swap_policy import Active, Demand, SwapSettings, choose

logger = init_logger(__name__)

SETTINGS_KEY = "coe"
"""Key of our settings in vLLM's `additional_config`: {"overhead", "max_wait", "first_expert"}."""
EXPERT_KEY = "expert"
"""Key of a request's expert in `SamplingParams.extra_args`, and of the stamps in the finished output."""


def own_settings(config: VllmConfig) -> dict[str, Any]:
    """Our settings, as the front end put them into `additional_config`."""
    assert isinstance(config.additional_config, dict)
    settings: dict[str, Any] = config.additional_config[SETTINGS_KEY]
    return settings


_FIRST_GUESS_SECONDS = 0.01
"""Cost of a swap before the first one was measured."""


def expert_of(request: Request) -> str:
    """The expert that a request was routed to. Raises KeyError if the front end forgot to say."""
    assert request.sampling_params is not None
    return str((request.sampling_params.extra_args or {})[EXPERT_KEY])


# Scheduling


class ExpertQueue(RequestQueue):
    """vLLM's request queue, kept per expert. While `view` names an expert, only its requests are there to be seen."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy
        self._queues: dict[str, RequestQueue] = {}
        self.view: str | None = None

    def _of(self, request: Request) -> RequestQueue:
        expert = expert_of(request)
        if expert not in self._queues:
            self._queues[expert] = create_request_queue(self._policy)
        return self._queues[expert]

    def _seen(self) -> list[RequestQueue]:
        if self.view is None:
            return [queue for queue in self._queues.values() if queue]
        queue = self._queues.get(self.view)
        return [queue] if queue else []

    def add_request(self, request: Request) -> None:
        self._of(request).add_request(request)

    def pop_request(self) -> Request:
        if not (seen := self._seen()):
            raise IndexError("pop from an empty queue")
        return seen[0].pop_request()

    def peek_request(self) -> Request:
        if not (seen := self._seen()):
            raise IndexError("peek from an empty queue")
        return seen[0].peek_request()

    def prepend_request(self, request: Request) -> None:
        self._of(request).prepend_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:  # one by one in the given order reverses them, as vLLM's own queue does
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        self._of(request).remove_request(request)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        by_expert: dict[str, list[Request]] = {}
        for request in requests:
            by_expert.setdefault(expert_of(request), []).append(request)
        for expert, group in by_expert.items():
            if queue := self._queues.get(expert):
                queue.remove_requests(group)

    def by_expert(self) -> Iterator[tuple[str, RequestQueue]]:
        """(expert, its non-empty queue), whatever the view."""
        return ((expert, queue) for expert, queue in self._queues.items() if queue)

    def __bool__(self) -> bool:
        return bool(self._seen())

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._seen())

    def __iter__(self) -> Iterator[Request]:
        for queue in self._seen():
            yield from queue


class _ExpertScheduling(Scheduler):
    """Schedules one expert's requests per step. Mixed into vLLM's scheduler, synchronous or asynchronous."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting = ExpertQueue(self.policy)
        self.kv_holding_waiting = ExpertQueue(self.policy)
        settings = own_settings(self.vllm_config)
        self._swap_settings = SwapSettings(overhead=settings["overhead"], max_wait=settings["max_wait"])
        self._swap_cost = _FIRST_GUESS_SECONDS
        self._active: Active | None = None
        self._served_at: dict[str, float] = {}
        self._stamps: dict[str, set[str]] = {}

    def add_request(self, request: Request) -> None:
        self._served_at[request.request_id] = time.monotonic()
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        now = time.monotonic()
        expert = choose(self._demands(), self._active, now, self._swap_settings)
        if expert is None:
            return super().schedule(throttle_prefills)
        if self._active is None or self._active.expert != expert:
            self._active = Active(expert, now)
        self._make_room(expert, now)
        with self._only(expert):
            output = super().schedule(throttle_prefills)
        # The stamp travels to the worker with the step; an empty step computes nothing and asks for nobody.
        output.expert = expert if output.total_num_scheduled_tokens else None  # type: ignore[attr-defined]
        for request_id in output.num_scheduled_tokens:
            self._served_at[request_id] = now
            self._stamps.setdefault(request_id, set()).add(expert)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if (took := getattr(model_runner_output, "swap_seconds", None)) is not None:
            self._swap_cost += 0.3 * (took - self._swap_cost)
        for batch in outputs.values():
            for output in batch.outputs:
                # The one free-form field that reaches the front end.
                stamps = sorted(self._stamps.get(output.request_id, ()))
                output.kv_transfer_params = {**(output.kv_transfer_params or {}), EXPERT_KEY: stamps}
        self._forget_finished()
        return outputs

    def _forget_finished(self) -> None:
        if len(self._served_at) > 2 * len(self.requests) + 64:
            self._served_at = {key: value for key, value in self._served_at.items() if key in self.requests}
            self._stamps = {key: value for key, value in self._stamps.items() if key in self.requests}

    def _demands(self) -> list[Demand]:
        """One entry for each expert with unfinished requests, in order of its first arrival."""
        count: dict[str, int] = {}
        oldest: dict[str, float] = {}

        def note(expert: str, requests: Iterable[Request], number: int) -> None:
            count[expert] = count.get(expert, 0) + number
            served = min((self._served_at[r.request_id] for r in requests), default=float("inf"))
            oldest[expert] = min(oldest.get(expert, float("inf")), served)

        for request in self.running:
            note(expert_of(request), (request,), 1)
        for queue in (self.kv_holding_waiting, self.waiting):
            for expert, own in queue.by_expert():  # type: ignore[attr-defined]
                # The head of a queue arrived first, unless it was preempted: then it is also the one served last.
                note(expert, (own.peek_request(),), len(own))
        return [Demand(expert, n, oldest[expert], self._swap_cost) for expert, n in count.items()]

    @contextmanager
    def _only(self, expert: str) -> Iterator[None]:
        """Within: vLLM sees this expert's requests only. Those of the others keep their KV blocks and their order."""
        paused = [request for request in self.running if expert_of(request) != expert]
        self.running = [request for request in self.running if expert_of(request) == expert]
        self.waiting.view = self.kv_holding_waiting.view = expert  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self.waiting.view = self.kv_holding_waiting.view = None  # type: ignore[attr-defined]
            self.running = self.running + paused

    def _make_room(self, expert: str, now: float) -> None:
        """Preempts paused requests, the last served first, where `expert` could not take a step without their blocks.

        vLLM preempts only requests that it sees, and never for a waiting one: a pool full of paused requests would
        stop the active expert for good.
        """
        needed = self._blocks_for_a_step(expert)
        pool = self.kv_cache_manager.block_pool
        paused = [request for request in self.running if expert_of(request) != expert]
        paused.sort(key=lambda request: self._served_at[request.request_id])
        while paused and pool.get_num_free_blocks() < needed:
            victim = paused.pop()
            self.running.remove(victim)
            self._preempt_request(victim, now)

    def _blocks_for_a_step(self, expert: str) -> int:
        running = [request for request in self.running if expert_of(request) == expert]
        if running:
            ahead = (max(0, request.num_tokens_with_spec - request.num_computed_tokens) for request in running)
            return sum(1 + -(-tokens // self.block_size) for tokens in ahead)
        for queue in (self.kv_holding_waiting, self.waiting):
            own = dict(queue.by_expert()).get(expert)  # type: ignore[attr-defined]
            if own:
                return 1 + int(-(-own.peek_request().num_tokens // self.block_size))
        return 0


class ExpertScheduler(_ExpertScheduling):
    """For platforms that step synchronously (CPU)."""


class ExpertAsyncScheduler(_ExpertScheduling, AsyncScheduler):
    """For platforms that schedule a step ahead of its outputs (CUDA)."""


# Images


class Images(Protocol):
    """The images of a worker's experts, and the active one."""

    def take(self, name: str, model: torch.nn.Module) -> None:
        """Keeps what `model` computes with now as the image `name`."""
        ...

    def activate(self, name: str, model: torch.nn.Module) -> None:
        """Makes `model` compute with the image `name`. Raises KeyError if there is none."""
        ...


class ReferenceImages:
    """Images as references, for CPU: activating one rebinds each module's tensors, nothing is copied.

    vLLM's CPU platform moves the weights of a linear layer into the closure `cpu_linear` (packed for the kernel), so a
    module's parameters alone are not its weights.
    """

    _CLOSURES = ("cpu_linear",)

    def __init__(self) -> None:
        self._images: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]] = {}

    def take(self, name: str, model: torch.nn.Module) -> None:
        self._images[name] = {
            path: (
                dict(module._parameters),
                dict(module._buffers),
                {key: module.__dict__[key] for key in self._CLOSURES if key in module.__dict__},
            )
            for path, module in model.named_modules()
        }

    def activate(self, name: str, model: torch.nn.Module) -> None:
        image = self._images[name]
        for path, module in model.named_modules():
            parameters, buffers, closures = image[path]
            module._parameters.update(parameters)
            module._buffers.update(buffers)
            module.__dict__.update(closures)

    def drop(self, name: str) -> None:
        del self._images[name]

    def shapes(self, name: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Path of each tensor -> its shape and dtype: equal for all members of a family."""
        return {
            f"{path}.{key}": (tuple(tensor.shape), tensor.dtype)
            for path, (parameters, buffers, _) in self._images[name].items()
            for key, tensor in (*parameters.items(), *buffers.items())
            if tensor is not None
        }


class CopyImages:
    """Images as copies in host memory, pinned where the device is CUDA: the active tensors keep their addresses, which
    CUDA graphs have recorded. Activating copies host to device."""

    def __init__(self) -> None:
        self._images: dict[str, dict[str, torch.Tensor]] = {}

    @staticmethod
    def _tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        yield from model.named_parameters()
        yield from model.named_buffers()

    def take(self, name: str, model: torch.nn.Module) -> None:
        image = {}
        for key, tensor in self._tensors(model):
            host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
            image[key] = host.copy_(tensor.detach())
        self._images[name] = image

    def activate(self, name: str, model: torch.nn.Module) -> None:
        image = self._images[name]
        with torch.no_grad():
            for key, tensor in self._tensors(model):
                tensor.data.copy_(image[key], non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


# Worker


class _ExpertWorker:
    """Swaps images between steps. Mixed in before the platform's own worker class."""

    vllm_config: VllmConfig
    model_runner: Any

    def load_model(self, **kwargs: Any) -> None:
        super().load_model(**kwargs)  # type: ignore[misc]
        first = own_settings(self.vllm_config)["first_expert"]
        self._images: Images = self._new_images()
        self._images.take(first, self.model_runner.get_model())
        self._active_expert: str = first
        self._expert_of: dict[str, str] = {}
        self._swaps = 0
        self._swap_seconds = 0.0
        self._last_swap: float | None = None

    def _new_images(self) -> Images:
        return CopyImages()

    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        expert: str | None = getattr(scheduler_output, "expert", None)
        for request in scheduler_output.scheduled_new_reqs:
            assert request.sampling_params is not None
            self._expert_of[request.req_id] = request.sampling_params.extra_args[EXPERT_KEY]  # type: ignore[index]
        if expert is not None:
            strangers = {r for r in scheduler_output.num_scheduled_tokens if self._expert_of[r] != expert}
            if strangers:
                raise RuntimeError(f"a step of expert {expert!r} holds requests of others: {sorted(strangers)}")
            self._swap_to(expert)
        for request_id in scheduler_output.finished_req_ids:
            self._expert_of.pop(request_id, None)
        return super().execute_model(scheduler_output)  # type: ignore[misc]

    def sample_tokens(self, grammar_output: Any) -> Any:
        output = super().sample_tokens(grammar_output)  # type: ignore[misc]
        if self._last_swap is not None and isinstance(output, ModelRunnerOutput):
            output.swap_seconds = self._last_swap  # type: ignore[attr-defined]
            self._last_swap = None
        return output

    def _swap_to(self, expert: str) -> None:
        if expert == self._active_expert:
            return
        started = time.perf_counter()
        self._images.activate(expert, self.model_runner.get_model())
        self._active_expert = expert
        self._last_swap = time.perf_counter() - started
        self._swaps += 1
        self._swap_seconds += self._last_swap

    # Called by name through vLLM's `collective_rpc`.

    def load_expert(self, name: str, path: str) -> str | None:
        """Loads the checkpoint at `path` as the image `name`. Returns why not, in words, if that failed."""
        try:
            self._load_image(name, path)
        except Exception as error:
            logger.exception("expert %s could not be loaded", name)
            return f"{type(error).__name__}: {error}"
        return None

    def _load_image(self, name: str, path: str) -> None:
        model = self.model_runner.get_model()
        try:
            self.reload_weights(weights_path=path)  # type: ignore[attr-defined]
            self._images.take(name, model)
        finally:
            self._images.activate(self._active_expert, model)

    def expert_stats(self) -> dict[str, Any]:
        return {"active": self._active_expert, "swaps": self._swaps, "swap_seconds": self._swap_seconds}


if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker

    class ExpertWorker(_ExpertWorker, CPUWorker):
        """The CPU worker: images are references, and an expert is loaded beside the active one, not over it."""

        def _new_images(self) -> Images:
            return ReferenceImages()

        def _load_image(self, name: str, path: str) -> None:
            config = copy.copy(self.vllm_config)
            config.model_config = copy.copy(config.model_config)
            config.model_config.model = path
            config.compilation_config = copy.copy(config.compilation_config)
            config.compilation_config.static_forward_context = {}  # else the layers collide with the active model's
            assert isinstance(self._images, ReferenceImages)
            with set_current_vllm_config(config):
                self._images.take(name, get_model(vllm_config=config))
            first = own_settings(self.vllm_config)["first_expert"]
            if self._images.shapes(name) != self._images.shapes(first):
                self._images.drop(name)
                raise ValueError(f"its tensors differ in shape or type from those of {first!r}: not of one family")

else:
    from vllm.v1.worker.gpu_worker import Worker

    class ExpertWorker(_ExpertWorker, Worker):  # type: ignore[no-redef]
        """The CUDA worker (untested for want of a GPU)."""


def scheduler_class() -> str:
    """Import path of the scheduler for this platform, as `scheduler_cls` wants it."""
    name = "ExpertScheduler" if current_platform.is_cpu() else "ExpertAsyncScheduler"
    return f"{__name__}.{name}"


def worker_class() -> str:
    """Import path of the worker for this platform, as `worker_cls` wants it."""
    return f"{__name__}.ExpertWorker"


__all__ = ["CopyImages", "ExpertAsyncScheduler", "ExpertQueue", "ExpertScheduler", "ExpertWorker", "ReferenceImages"]
