"""Everything of vLLM's internals that we touch: one engine serves all experts of a family.

The scheduler (in vLLM's EngineCore process) asks the swap policy which expert computes next, shows vLLM only that
expert's requests, and sends orders with the step: the image to compute with, one to load, some to give up. The worker
(a process of its own; on a single GPU in the scheduler's) carries them out between steps and reports what its image
store did. Requests of the other experts keep their KV blocks meanwhile.

An adapter computes with the image of its base, so the unit here is the *image*: the name of a checkpoint expert.
vLLM is pinned; ``tests/workers/test_vllm_contract.py`` fails when something used here changes.
"""

import copy
import math
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.logger import init_logger
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.utils import initialize_model, process_weights_after_loading
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import CachedRequestData, SchedulerOutput
from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from workers.checkpoints import fingerprint
from workers.fair_queue import KeyHeap
from workers.image_copies import CopyBackend
from workers.image_files import ImageError, ImageFiles, IntegrityError, Tensors
from workers.images import Backend, ImageEvent, ImageStore
from workers.steps import (
    CALLER_KEY,
    FAILURE_KEY,
    IMAGE_KEY,
    STAMPS_KEY,
    TIMES_KEY,
    Catalogue,
    EngineSettings,
    ImageSource,
    Orders,
    Report,
    SwapLog,
    Times,
    expert_of,
)
from workers.swap_policy import Key

logger = init_logger(__name__)


def _extra(request: Request, key: str) -> str:
    assert request.sampling_params is not None
    return str((request.sampling_params.extra_args or {})[key])


def image_of(request: Request) -> str:
    """The image that computes a request. Raises KeyError if the front end forgot to say."""
    return _extra(request, IMAGE_KEY)


# Scheduling

_OVERLOADED = ("overloaded", "too many experts wait for the engine to keep the bound on waiting; try again later")
NOBODY = ""
RETRY = 10.0
"""Seconds after which a request makes an image that failed be tried again. It costs other images their place."""


class ExpertQueue(RequestQueue):
    """vLLM's queue of waiting requests: a heap for each image, in the order of the policy's keys.

    While `view` names an image, only its requests with a key up to `newest` are there to be seen. A request without a
    key (its grammar is being compiled, or it is refused) is counted, and seen by nobody. A key does not
    change while its request is here.
    """

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys
        self._requests: dict[str, Request] = {}
        self._heaps: dict[str, KeyHeap[Request]] = {}
        self.view: str | None = None
        self.newest: Key | None = None

    def _head(self) -> Request | None:
        heap = self._heaps.get(self.view) if self.view is not None else None
        key = heap.least() if heap is not None else None
        if heap is None or key is None or (self.newest is not None and key > self.newest):
            return None
        return heap.first()

    def add_request(self, request: Request) -> None:
        self._requests[request.request_id] = request
        self.file(request)

    def file(self, request: Request) -> None:
        """Puts a request where its key says, once it has one."""
        if (key := self._keys.get(request.request_id)) is not None:
            self._heaps.setdefault(image_of(request), KeyHeap()).add(key, request)

    def peek_request(self) -> Request:
        if (head := self._head()) is None:
            raise IndexError("peek from an empty queue")
        return head

    def pop_request(self) -> Request:
        request = self.peek_request()
        self.remove_request(request)
        return request

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)  # its key puts it back to where it was

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def remove_request(self, request: Request) -> None:
        if self._requests.pop(request.request_id, None) is not None and request.request_id in self._keys:
            self._heaps[image_of(request)].discard(self._keys[request.request_id])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.remove_request(request)

    def __bool__(self) -> bool:
        return self._head() is not None if self.view is not None else bool(self._requests)

    def __len__(self) -> int:
        return len(self._requests) if self.view is None else len(self._heaps.get(self.view, ()))

    def __iter__(self) -> Iterator[Request]:
        return iter([r for r in self._requests.values() if self.view is None or image_of(r) == self.view])


class _ExpertScheduling(Scheduler):
    """Schedules one image's requests per step. Mixed into vLLM's scheduler, synchronous or asynchronous."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = EngineSettings.of(self.vllm_config.additional_config)
        self._policy = settings.new_policy()
        self._sizes = {name: source.bytes for name, source in settings.images.items()}
        self._ready: set[str] = set()
        self._failed: dict[str, tuple[float, tuple[str, str]]] = {}  # image -> when it is tried again, why
        self._dropped: list[str] = []  # images to evict with the next step, whatever the policy thinks of them
        for name, size in self._sizes.items():
            self._policy.place(name, "disk", size)
        self._keys: dict[str, Key] = {}
        self.waiting = ExpertQueue(self._keys)
        self.kv_holding_waiting = ExpertQueue(self._keys)
        self._compiling: dict[str, Request] = {}
        self._refused: list[tuple[Request, tuple[str, str]]] = []
        self._strict = settings.strict
        self._stamps: dict[str, set[str]] = {}
        self._times: dict[str, Times] = {}
        self._ended: list[str] = []
        self._told_at = self._busy_seconds = 0.0
        self._met_worker = False

    # vLLM's own events, told to the policy

    def add_request(self, request: Request) -> None:
        now = time.monotonic()
        self._times[request.request_id] = Times(now)
        if request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR:
            self._compiling[request.request_id] = request
        else:
            self._arrive(request, now)
        super().add_request(request)

    def _arrive(self, request: Request, now: float) -> None:
        image = image_of(request)
        retry_at, why = self._failed.get(image, (-math.inf, _OVERLOADED))
        if now < retry_at or (self._strict and not self._policy.admits(image)):
            self._refused.append((request, why if now < retry_at else _OVERLOADED))
            return
        if self._failed.pop(image, None) is not None:  # it is tried again
            self._policy.place(image, "disk", self._sizes[image])
        caller = _extra(request, CALLER_KEY)
        self._keys[request.request_id] = self._policy.arrive(
            request.request_id, image, now, priority=request.priority, caller=caller
        )

    def _arrive_compiled(self, now: float) -> None:
        for request in list(self._compiling.values()):
            structured = request.structured_output_request
            if structured is None or structured.grammar is not None:
                del self._compiling[request.request_id]
                self._arrive(request, now)
                self.waiting.file(request)  # type: ignore[attr-defined]

    def _preempt_request(self, request: Request, timestamp: float, drop_stale_output: bool = False) -> None:
        self._policy.requeue(request.request_id)
        super()._preempt_request(request, timestamp, drop_stale_output)

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> Any:
        self._policy.finish(request.request_id)
        self._compiling.pop(request.request_id, None)
        self._ended.append(request.request_id)
        return super()._free_request(request, delay_free_blocks)

    # A step

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        now = time.monotonic()
        if self._compiling:
            self._arrive_compiled(now)
        decision = self._policy.decide(now)
        chosen, load = decision.expert, decision.load
        evict, self._dropped = (*decision.evict, *self._dropped), []
        self._ready.difference_update(evict)  # before the report: a step may be scheduled ahead of it
        if chosen is not None and chosen not in self._ready:
            chosen, load = None, chosen  # the engine has room for one image: nothing computes until it is there
        if not self._met_worker:
            chosen, self._met_worker = None, True  # an empty step, whose output tells which images are ready
        if chosen is not None:
            self._make_room(chosen, now)
        with self._only(chosen or NOBODY, decision.newest):
            output = super().schedule(throttle_prefills)
        compute = chosen if output.total_num_scheduled_tokens else None
        queue = None
        if now - self._told_at > 0.5:
            queue = {"oldest_wait": self._policy.oldest_wait(now), "busy_seconds": self._busy_seconds}
            self._told_at = now
        output.images = Orders(compute, load, evict, queue)  # type: ignore[attr-defined]
        if compute is not None:
            for new in output.scheduled_new_reqs:
                self._policy.start(new.req_id)
                times = self._times[new.req_id]
                times.started = now if times.started is None else times.started
            for request_id in output.scheduled_cached_reqs.resumed_req_ids:
                self._policy.start(request_id)
            for request_id in output.num_scheduled_tokens:
                self._stamps.setdefault(request_id, set()).add(compute)
        return output

    @contextmanager
    def _only(self, image: str, newest: Key | None) -> Iterator[None]:
        """Within: vLLM sees this image's requests only. Those of the others keep their KV blocks and their order."""
        paused = [request for request in self.running if image_of(request) != image]
        self.running = [request for request in self.running if image_of(request) == image]
        queues: tuple[Any, ...] = (self.waiting, self.kv_holding_waiting)
        for queue in queues:
            queue.view, queue.newest = image, newest
        try:
            yield
        finally:
            for queue in queues:
                queue.view = queue.newest = None
            self.running = self.running + paused

    def _make_room(self, image: str, now: float) -> None:
        """Preempts paused requests, the last in order first, where `image` could not take a step without their blocks.

        vLLM preempts only requests that it sees, and never for a waiting one: a pool full of paused requests would
        stop the active expert for good.
        """
        needed = self._blocks_for_a_step(image)
        pool = self.kv_cache_manager.block_pool
        if pool.get_num_free_blocks() >= needed:
            return
        paused = [
            request
            for request in self.running
            if image_of(request) != image and self._request_blocks_can_be_freed(request)
        ]
        paused.sort(key=lambda request: self._keys[request.request_id])
        while paused and pool.get_num_free_blocks() < needed:
            victim = paused.pop()
            self.running.remove(victim)
            self._preempt_request(victim, now)

    def _blocks_for_a_step(self, image: str) -> int:
        running = [request for request in self.running if image_of(request) == image]
        if running:
            return sum(self._blocks_ahead(request) for request in running)
        with self._only(image, None):
            for queue in (self.kv_holding_waiting, self.waiting):
                if queue:
                    return 1 + self._blocks_ahead(queue.peek_request())
        return 0

    def _blocks_ahead(self, request: Request) -> int:
        """Blocks that it needs for all its tokens, beyond those that it has."""
        tokens = max(request.num_tokens_with_spec, request.num_computed_tokens) + 1  # the one that the step makes
        held = self.kv_cache_manager.get_block_ids(request.request_id)
        return max(-(-tokens // self.block_size) - len(group) for group in held) if held else 0

    # What came of it

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        report: Report | None = getattr(model_runner_output, "images", None)
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        now = time.monotonic()
        if report is not None:
            if report.catalogue is not None:
                self._adopt(report.catalogue, outputs)
            self._learn(report, scheduler_output, outputs, now)
        for request, why in self._refused:
            self._end([request], why, outputs)
        self._refused.clear()
        for batch in outputs.values():
            for output in batch.outputs:
                told: dict[str, Any] = {STAMPS_KEY: sorted(self._stamps.get(output.request_id, ()))}
                if times := self._times.get(output.request_id):
                    told[TIMES_KEY] = times.told(now)
                output.kv_transfer_params = {**(output.kv_transfer_params or {}), **told}
        for request_id in self._ended:
            for kept in (self._keys, self._stamps, self._times):
                kept.pop(request_id, None)
        self._ended.clear()
        return outputs

    def _learn(self, report: Report, step: SchedulerOutput, outputs: dict[int, EngineCoreOutputs], now: float) -> None:
        if report.skipped:  # vLLM took their blocks for computed when it scheduled the step
            self.kv_cache_manager.evict_blocks(_blocks_of(step))
        if report.sizes is not None:
            self._sizes |= report.sizes
            self._policy.resize(report.sizes, report.shared)
        for event in report.events:
            if event.image not in self._sizes:  # it went in the same report
                continue
            if event.kind == "failed":
                self._fail(event.image, event.why, now + RETRY, outputs)
            elif event.kind == "loaded":
                self._ready.add(event.image)
                self._policy.loaded(event.image, event.source, event.seconds)
                self._place(event, outputs)
            elif event.kind == "evicted":
                self._ready.discard(event.image)
                self._place(event, outputs)
        if report.swap_seconds is not None:
            self._policy.swapped(report.swap_seconds)
        if step.total_num_scheduled_tokens:
            self._policy.stepped(now, report.step_seconds)
            self._busy_seconds += report.step_seconds
            for request_id in step.num_scheduled_tokens:
                if times := self._times.get(request_id):
                    times.execute += report.step_seconds
                    times.swap += report.swap_seconds or 0.0

    def _adopt(self, catalogue: Catalogue, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Images came and went. Of those that went no request is left, as far as the front end knows."""
        for image in self._sizes.keys() - catalogue.bytes.keys():
            self._fail(image, "it is served no more", math.inf, outputs)
            self._failed.pop(image)
            self._policy.forget(image)
            del self._sizes[image]
        self._policy.pin(catalogue.pinned)
        for image in catalogue.bytes.keys() - self._sizes.keys():
            self._sizes[image] = size = catalogue.bytes[image]
            try:
                self._policy.place(image, "disk", size)
            except ValueError as error:
                self._fail(image, str(error), math.inf, outputs)

    def _place(self, event: ImageEvent, outputs: dict[int, EngineCoreOutputs]) -> None:
        if event.image in self._failed:
            if event.kind == "loaded":  # begun by a step ahead of the failure; the policy does not count it
                self._dropped.append(event.image)
            return
        try:
            self._policy.place(event.image, event.target, self._sizes[event.image])
        except ValueError as error:  # larger than its files made believe
            self._dropped.append(event.image)
            self._fail(event.image, str(error), math.inf, outputs)

    def _fail(self, image: str, why: str, retry_at: float, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Ends the requests of an image that cannot be loaded; the other experts go on."""
        failure = ("expert_unavailable", f"expert {expert_of(image)} cannot answer: {why}")
        self._ready.discard(image)
        self._failed[image] = retry_at, failure
        self._policy.remove(image)
        lost = [request for request in self.requests.values() if image_of(request) == image]
        for request in lost:  # a step ahead may have taken blocks that are never computed
            blocks = self.kv_cache_manager.get_block_ids(request.request_id)
            self.kv_cache_manager.evict_blocks({block for group in blocks for block in group})
        self._end(lost, failure, outputs)

    def _end(self, requests: list[Request], failure: tuple[str, str], outputs: dict[int, EngineCoreOutputs]) -> None:
        ids = [request.request_id for request in requests]
        for request in self.finish_requests(ids, RequestStatus.FINISHED_ERROR):
            output = EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[],
                finish_reason=request.get_finished_reason(),
                kv_transfer_params={FAILURE_KEY: failure},
            )
            outputs.setdefault(request.client_index, EngineCoreOutputs(outputs=[])).outputs.append(output)


def _blocks_of(step: SchedulerOutput) -> set[int]:
    """The blocks that a step was given, new ones of cached requests and all of new requests."""
    given = [new.block_ids for new in step.scheduled_new_reqs]
    given += [blocks for blocks in step.scheduled_cached_reqs.new_block_ids if blocks is not None]
    return {block for groups in given for group in groups for block in group}


class ExpertScheduler(_ExpertScheduling):
    """For engines that step synchronously (CPU)."""


class ExpertAsyncScheduler(_ExpertScheduling, AsyncScheduler):
    """For engines that schedule a step ahead of its outputs (CUDA)."""


# Images on the CPU


class _Skeleton:
    """A model of the family without weights, of which images are made beside the one that computes."""

    def __init__(self, config: VllmConfig) -> None:
        own = copy.copy(config)
        own.compilation_config = copy.copy(config.compilation_config)
        own.compilation_config.static_forward_context = {}  # else its layers collide with the active model's
        own.load_config = copy.copy(config.load_config)
        own.load_config.use_tqdm_on_load = False
        self._config = own
        dtype = own.model_config.dtype
        assert isinstance(dtype, torch.dtype)  # vLLM resolves names in its own configuration
        with set_default_torch_dtype(dtype), set_current_vllm_config(own):
            self._model = initialize_model(own)
        self._like = dict(self._model.named_parameters())

    def tree(self, tensors: Tensors | None) -> torch.nn.Module:
        """A copy of the module tree with these parameters, or with fresh memory to load into.

        It has no references in cycles: a tree is freed, with its weights, as soon as nobody holds it.
        """
        made: dict[int, torch.nn.Parameter] = {}
        for name, like in self._like.items():
            data = torch.empty_like(like) if tensors is None else tensors[name]
            made[id(like)] = new = torch.Tensor._make_subclass(type(like), data, False)
            new.__dict__.update(like.__dict__)
        copies: dict[int, torch.nn.Module] = {}
        for module in self._model.modules():
            copies[id(module)] = new_module = object.__new__(type(module))
            new_module.__dict__.update(module.__dict__)
            new_module._parameters = {k: p if p is None else made[id(p)] for k, p in module._parameters.items()}
            new_module._buffers = dict(module._buffers)
        for module in self._model.modules():
            children = module._modules.items()
            copies[id(module)]._modules = {k: m if m is None else copies[id(m)] for k, m in children}
        return copies[id(self._model)]

    def read(self, path: str, cancelled: Callable[[], bool]) -> Tensors:
        """The weights of the checkpoint at `path` as this family's parameters. Raises InterruptedError if cancelled."""
        config = copy.copy(self._config.model_config)
        config.model = path
        loader: Any = get_model_loader(self._config.load_config)
        model: Any = self.tree(None)

        def weights() -> Iterator[tuple[str, torch.Tensor]]:
            for pair in loader.get_all_weights(config, model):
                if cancelled():
                    raise InterruptedError
                yield pair

        loaded = model.load_weights(weights())
        tensors = {name: parameter.data for name, parameter in model.named_parameters()}
        if loaded is not None and config.quantization is None and (missing := sorted(tensors.keys() - loaded)):
            raise ValueError(f"{path} lacks weights of its family: {', '.join(missing[:3])} ({len(missing)} in all)")
        return tensors

    def process(self, tree: torch.nn.Module, device: torch.device) -> None:
        """Brings the weights of `tree` into kernel layout, in place."""
        process_weights_after_loading(tree, self._config.model_config, device)

    def read_processed(self, path: str, cancelled: Callable[[], bool], device: torch.device) -> Tensors:
        """As `read`, in the kernels' layout for `device`, which holds them for a moment, but in host memory."""
        tree = self.tree({name: tensor.to(device) for name, tensor in self.read(path, cancelled).items()})
        self.process(tree, device)
        return {name: parameter.data.cpu() for name, parameter in tree.named_parameters()}


def _compute_plainly(model: torch.nn.Module, tree: torch.nn.Module) -> None:
    """Lets `model` compute with the plain weights of `tree`: on the CPU vLLM's own are packed and cannot be written."""
    parts = dict(tree.named_modules())
    for path, module in model.named_modules():
        if (part := parts.get(path.replace(".base_layer", ""))) is not None:
            module._parameters.update(part._parameters)
        if "cpu_linear" in module.__dict__:
            module.cpu_linear = torch.nn.functional.linear


_Part = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""What a module computes with: parameters, buffers, closures."""


class _Packed:
    """A module's weights in kernel layout, shared by all images that have the same bytes there."""

    def __init__(self, part: _Part) -> None:
        self.part = part


class ReferenceBackend:
    """Images as references, for CPU: activating one rebinds each module's tensors, nothing is copied.

    vLLM's CPU platform moves the weights of a linear layer into the closure `cpu_linear` (packed for the kernel), so a
    module's parameters alone are not its weights. Layers whose weights are equal in two images are packed once.
    """

    _CLOSURES = ("cpu_linear",)

    def __init__(self, model: torch.nn.Module, skeleton: _Skeleton) -> None:
        # LoRA wraps a layer and keeps the original one as `base_layer`.
        self._modules = {path.replace(".base_layer", ""): module for path, module in model.named_modules()}
        self._skeleton = skeleton
        self._packed: weakref.WeakValueDictionary[tuple[str, ...], _Packed] = weakref.WeakValueDictionary()

    def build(self, tensors: Tensors, digests: Mapping[str, str]) -> dict[str, _Packed]:
        """Path of each module with state -> what it computes with."""
        tree = self._skeleton.tree(tensors)
        names = {id(parameter): name for name, parameter in tree.named_parameters()}
        keys: dict[str, tuple[str, ...]] = {}
        built: dict[str, _Packed] = {}
        for path, module in tree.named_modules():
            own = [names[id(parameter)] for parameter in module._parameters.values() if parameter is not None]
            if own:
                keys[path] = (type(module).__name__, *(digests[name] for name in own))
                if packed := self._packed.get(keys[path]):
                    built[path] = packed
                    module.quant_method = None  # vLLM passes over it
        self._skeleton.process(tree, torch.device("cpu"))
        for path, module in tree.named_modules():
            if path in built or not (module._parameters or module._buffers):
                continue
            closures = {name: module.__dict__[name] for name in self._CLOSURES if name in module.__dict__}
            built[path] = _Packed((dict(module._parameters), dict(module._buffers), closures))
            if path in keys:
                self._packed[keys[path]] = built[path]
        return built

    def check(self, built: dict[str, _Packed], tensors: Tensors) -> Iterator[None]:
        """Each packed layer must map a probe vector as its plain weight does.

        On the engine's thread: vLLM's oneDNN product of one thread corrupts that of another (they share a scratchpad).
        """
        for path, packed in built.items():
            weight = tensors.get(f"{path}.weight")
            linear = packed.part[2].get("cpu_linear")
            if linear is None or weight is None or weight.ndim != 2 or not weight.is_floating_point():
                continue
            probe = torch.randn(1, weight.shape[1], generator=torch.Generator().manual_seed(1)).to(weight.dtype)
            got, wanted = linear(probe, weight, None), torch.nn.functional.linear(probe, weight)
            tolerance = 1e-4 if weight.dtype == torch.float32 else 1e-2
            if got.shape != wanted.shape or not (got - wanted).abs().max() <= tolerance * wanted.abs().max():
                raise IntegrityError(f"layer {path} does not compute with the weights that were loaded")
            yield

    def activate(self, built: dict[str, _Packed]) -> int:
        for path, packed in built.items():
            module = self._modules[path]
            parameters, buffers, closures = packed.part
            module._parameters.update(parameters)
            module._buffers.update(buffers)
            module.__dict__.update(closures)
        return 0


# Worker


class _ReportedLater(AsyncModelRunnerOutput):
    """vLLM's output that is still under way, with our report, which `end` completes."""

    def __init__(self, output: AsyncModelRunnerOutput, report: Report, end: Callable[[], None]) -> None:
        self._output, self._report, self._end = output, report, end

    def get_output(self) -> ModelRunnerOutput:
        output = self._output.get_output()
        self._end()
        output.images = self._report  # type: ignore[attr-defined]
        return output


class _ExpertWorker:
    """Carries out the scheduler's orders between steps. Mixed in before the platform's own worker class."""

    vllm_config: VllmConfig
    model_runner: Any

    def load_model(self, **kwargs: Any) -> None:
        super().load_model(**kwargs)  # type: ignore[misc]
        settings = EngineSettings.of(self.vllm_config.additional_config)
        self._image_of: dict[str, str] = {}
        self._skipped: set[str] = set()  # requests of a step that could not be computed
        self._step_began = 0.0
        self._step_ended = 0.0
        self._pending: Report | None = None
        self._instead: ModelRunnerOutput | None = None
        self._queue: dict[str, Any] = {}
        self._log = SwapLog()
        self._sources = settings.images
        self._catalogue: Catalogue | None = None  # what the scheduler is still to be told
        self._store = self._new_store(settings)
        for name, source in settings.images.items():
            self._store.add(name, source.fingerprint, source.bytes)
        self._store.activate(settings.first)

    def _new_store(self, settings: EngineSettings) -> ImageStore:
        raise NotImplementedError

    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        orders: Orders | None = getattr(scheduler_output, "images", None)
        for request in scheduler_output.scheduled_new_reqs:
            assert request.sampling_params is not None
            self._image_of[request.req_id] = request.sampling_params.extra_args[IMAGE_KEY]  # type: ignore[index]
        report = Report([])
        try:
            if orders is not None:
                self._carry_out(orders, scheduler_output, report)
        except ImageError as error:
            report.skipped = True
            scheduler_output = self._skip(scheduler_output, str(error))
        for request_id in scheduler_output.finished_req_ids:
            self._image_of.pop(request_id, None)
            self._skipped.discard(request_id)
        self._step_began = time.perf_counter()
        output = super().execute_model(scheduler_output)  # type: ignore[misc]
        if output is None or self._instead is not None:
            self._pending = report  # goes with what sample_tokens returns
            return None
        return self._reported(output, report)

    def sample_tokens(self, grammar_output: Any) -> Any:
        report, self._pending = self._pending or Report([]), None
        output, self._instead = self._instead, None
        if output is None:
            output = super().sample_tokens(grammar_output)  # type: ignore[misc]
        return self._reported(output, report)

    def _skip(self, step: SchedulerOutput, why: str) -> SchedulerOutput:
        """A step whose image cannot be computed with yields no token. The scheduler ends its requests: the image is
        reported as failed. Returns what is left of the step."""
        ids = list(step.num_scheduled_tokens)
        self._instead = ModelRunnerOutput(ids, {each: at for at, each in enumerate(ids)}, [[] for _ in ids])
        if self._skipped.isdisjoint(ids) and step.images.compute in self._store:  # type: ignore[attr-defined]
            self._store.fail(step.images.compute, why)  # type: ignore[attr-defined]
        self._skipped.update(ids)
        rest = copy.copy(step)
        rest.scheduled_new_reqs, rest.num_scheduled_tokens, rest.total_num_scheduled_tokens = [], {}, 0
        rest.scheduled_cached_reqs = CachedRequestData.make_empty()
        return rest

    def _reported(self, output: Any, report: Report) -> Any:
        self._tell(report)
        if isinstance(output, AsyncModelRunnerOutput):
            return _ReportedLater(output, report, partial(self._end_step, report, self._step_began))
        self._end_step(report, self._step_began)
        if isinstance(output, ModelRunnerOutput):
            output = copy.copy(output)  # an empty step's output is a constant of vLLM's
            output.images = report
        return output

    def _end_step(self, report: Report, began: float) -> None:
        """A step is over; one that was begun before the end of the former waited for it."""
        now = time.perf_counter()
        report.step_seconds, self._step_ended = now - max(began, self._step_ended), now

    def _tell(self, report: Report) -> None:
        """Adds to a report what the store has done since the last one."""
        events = self._store.poll()
        for event in events:
            self._log.happened(event)
        report.events += events
        if self._catalogue is not None or any(event.kind == "loaded" for event in events):
            report.sizes, report.shared = self._store.sizes()
        if self._catalogue is not None:
            report.catalogue, self._catalogue = self._catalogue, None

    def _carry_out(self, orders: Orders, step: SchedulerOutput, report: Report) -> None:
        """Raises ImageError if the step cannot be computed; all else is done then."""
        if orders.queue is not None:
            self._queue = orders.queue
        strangers = {r for r in step.num_scheduled_tokens if self._image_of[r] != orders.compute}
        if strangers:
            raise RuntimeError(f"a step of {orders.compute!r} holds requests of others: {sorted(strangers)}")
        former = self._store.active
        for name in orders.evict:
            if name in self._store:  # else it went meanwhile
                self._store.evict(name)
        if orders.load is None:
            self._store.cancel()
        elif orders.load in self._store and self._store.begin(orders.load) and orders.compute is not None:
            self._log.prefetching(orders.load)
        if not self._skipped.isdisjoint(step.num_scheduled_tokens):
            raise ImageError("the step before could not be computed")  # this one was scheduled ahead of its outcome
        if orders.compute is not None and orders.compute not in self._store:
            raise ImageError(f"{orders.compute} is served no more")  # the front end asks for none of these
        if orders.compute is not None and orders.compute != self._store.active:
            done = self._store.activate(orders.compute)
            self._tell(report)  # a load in line goes before its swap
            self._log.swapped(former, orders.compute, done.bytes, done.seconds)
            report.swap_seconds = done.seconds

    # Called by name through vLLM's `collective_rpc`, between steps.

    def load_image(self, name: str) -> None:
        """Loads an image ahead of any request for it, in line. What came of it is told with the next step."""
        if self._store.begin(name):
            self._log.preloading(name)
        self._store.wait()

    def adopt_images(self, images: dict[str, dict[str, Any]], pinned: list[str]) -> None:
        """These images there are from now on. images: name -> fields of its `ImageSource`; pinned: as in `Catalogue`.

        The scheduler is told with the next step, which is empty where nothing else is to be computed.
        """
        for name in self._sources.keys() - images.keys():
            self._store.remove(name)
        for name in images.keys() - self._sources.keys():
            source = self._sources[name] = ImageSource(**images[name])
            self._store.add(name, source.fingerprint, source.bytes)
        for name in self._sources.keys() - images.keys():
            del self._sources[name]
        sizes = {name: self._store.size(name) or source.bytes for name, source in self._sources.items()}
        self._catalogue = Catalogue(sizes, frozenset(pinned))
        if self._store.active is None and current_platform.is_cpu() and (other := next(iter(self._store.ready), None)):
            self._store.activate(other)  # the model refers to the weights that went until then

    def shutdown(self) -> None:
        if (store := getattr(self, "_store", None)) is not None:
            store.close()
        super().shutdown()  # type: ignore[misc]

    def expert_stats(self) -> dict[str, Any]:
        """Fields of `workers.base.WorkerStats`."""
        return {
            **self._log.stats(),
            **self._store.stats(),
            **self._queue,
        }


if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as _PlatformWorker  # type: ignore[assignment]


class ExpertWorker(_ExpertWorker, _PlatformWorker):
    """The platform's worker. On CUDA it is untested for want of a GPU; its copies are tested on CPU tensors."""

    def _new_store(self, settings: EngineSettings) -> ImageStore:
        model: torch.nn.Module = self.model_runner.get_model()
        skeleton = _Skeleton(self.vllm_config)
        cpu = current_platform.is_cpu()

        def read(name: str, cancelled: Callable[[], bool]) -> Tensors:
            path = settings.images[name].path
            assert self.device is not None
            return skeleton.read(path, cancelled) if cpu else skeleton.read_processed(path, cancelled, self.device)

        backend: Backend
        if settings.copy or not cpu:
            if cpu:
                _compute_plainly(model, skeleton.tree(read(settings.first, lambda: False)))
            backend = CopyBackend({name.replace(".base_layer", ""): p.data for name, p in model.named_parameters()})
        else:
            backend = ReferenceBackend(model, skeleton)
        files = None
        if settings.folder is not None:
            layout = (
                f"{settings.family} {vllm.__version__} {self.vllm_config.model_config.dtype} {'cpu' if cpu else 'cuda'}"
            )
            files = ImageFiles(Path(settings.folder), layout, settings.disk_bytes)
        return ImageStore(
            backend,
            read,
            lambda name: fingerprint(settings.images[name].path),
            host_bytes=settings.host_bytes,
            files=files,
            cores=settings.cores - os.sched_getaffinity(0),
        )


def scheduler_class(asynchronous: bool) -> str:
    """Import path of the scheduler, as `scheduler_cls` wants it."""
    return f"{__name__}.{'ExpertAsyncScheduler' if asynchronous else 'ExpertScheduler'}"


def worker_class() -> str:
    """Import path of the worker for this platform, as `worker_cls` wants it."""
    return f"{__name__}.ExpertWorker"


__all__ = [
    "EngineSettings",
    "ExpertAsyncScheduler",
    "ExpertQueue",
    "ExpertScheduler",
    "ExpertWorker",
    "ReferenceBackend",
]
