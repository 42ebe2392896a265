"""The engine of a family: all its experts behind one vLLM AsyncLLM."""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from experts.spec import ExpertSpec
from workers import tool_calls
from workers.base import ChatCall, Event, Failure, Finish, FinishReason, SwapEvent, WorkerStats, seconds_left
from workers.chat import UnusableChat
from workers.members import AdapterRoom, Members, adapter_room
from workers.memory import free_memory
from workers.steps import (
    CALLER_KEY,
    EXPERT_KEY,
    FAILURE_KEY,
    IMAGE_KEY,
    STAMPS_KEY,
    TIMES_KEY,
    EngineSettings,
    expert_of,
)
from workers.swap_policy import SwapPolicy, SwapSettings
from workers.vllm_output import Answer
from workers.vllm_serving import Served, Serving, one_line

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger(__name__)


class NoExpertLoads(RuntimeError):
    """No expert of the family can be loaded, so there is no engine. The message says why for each."""


@dataclass(frozen=True)
class ImageSettings:
    """Memory for the experts' weights; bytes. None for device: 70 % of the memory that is free when the engine starts.

    device: images that the engine can turn to at once; host: images kept in memory beside it; disk: image files under
    `folder`, None = as many as there is room for. Without a folder an expert is read from its checkpoint again.
    copy: images are copied into the model's tensors, as on a GPU, instead of referred to.
    """

    device: int | None = None
    host: int = 0
    disk: int | None = None
    folder: Path | None = None
    copy: bool = False


@dataclass(frozen=True)
class VllmSettings:
    """How a family's engine is set up.

    max_model_len: tokens, None = the checkpoint's; max_num_seqs: requests in a batch; kv_cache_gib: CPU only, GiB of
    KV cache; asynchronous: schedule a step ahead of its outputs, None = as vLLM does on this platform; engine_args:
    further arguments of vLLM's AsyncEngineArgs, as they are; policy: what decides about swaps, for comparisons; strict:
    refuse a request when the bound on waiting could not be kept for it, instead of letting it wait longer;
    shares_device: with engines of other families, so that `sleep` must give its memory back; metrics: vLLM's own, told
    through Ray, in whose worker the engine then runs.
    """

    dtype: str = "float32"
    max_model_len: int | None = None
    max_num_seqs: int = 16
    kv_cache_gib: int = 1
    swap: SwapSettings = field(default_factory=SwapSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    asynchronous: bool | None = None
    engine_args: dict[str, Any] = field(default_factory=dict)
    policy: type = SwapPolicy
    strict: bool = False
    shares_device: bool = False
    metrics: bool = False


class VllmEngine:
    """One AsyncLLM that serves every expert of `family` by image swaps (see ``workers/vllm_internals.py``)."""

    def __init__(self, family: str, experts: Sequence[ExpertSpec], settings: VllmSettings) -> None:
        self._family = family
        self._members = Members(family, experts, settings.dtype)
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._serving: Serving | None = None
        self._room: AdapterRoom | None = None
        self._first = ""
        self._up = self._sleeps = False
        self._unfinished: Counter[str] = Counter()
        self._unserved: set[str] = set()  # ids of requests that vLLM has given no output for yet
        self._seconds: Counter[str] = Counter()

    async def start(self) -> None:
        """Starts vLLM with the first expert whose checkpoint is whole, then loads images while they fit the device.

        Raises NoExpertLoads if none can be loaded.
        """
        images, members = self._settings.images, self._members
        members.device_bytes = images.device or _free_memory(self._settings.kv_cache_gib)
        usable = await asyncio.to_thread(members.usable)
        for first in usable[:2]:  # their files were looked at: what fails twice is not the expert's fault
            try:
                await self._start_with(first, usable)
                self._first = first.name
                break
            except Exception as error:
                members.problems[first.name] = one_line(error)
                await self._stop()
        if self._llm is None:
            raise NoExpertLoads(
                f"family {self._family!r} has no engine: "
                + "; ".join(f"{name}: {problem}" for name, problem in members.problems.items())
            )
        room = members.device_bytes
        for spec in usable:
            room -= members.sources[spec.name].bytes
            if spec is not first and room >= 0:
                await self._llm.collective_rpc("load_image", args=(spec.name,))
        serving = Serving(self._llm, members, self._context_length, self._room)
        await serving.start(first.name)
        self._serving, self._up = serving, True

    async def _start_with(self, first: ExpertSpec, usable: Sequence[ExpertSpec]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        from workers import vllm_internals

        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # V2 has slots for one batch, and paused requests keep theirs
        settings = self._settings
        cpu = current_platform.is_cpu()
        own = EngineSettings(
            family=self._family,
            first=first.name,
            images={spec.name: self._members.sources[spec.name] for spec in usable},
            swap=replace(settings.swap, pinned=self._members.pinned(settings.swap.pinned)),
            device_bytes=self._members.device_bytes,
            host_bytes=settings.images.host,
            disk_bytes=settings.images.disk,
            folder=str(settings.images.folder) if settings.images.folder else None,
            copy=settings.images.copy,
            strict=settings.strict,
            cores=frozenset(os.sched_getaffinity(0)),
            policy=f"{settings.policy.__module__}:{settings.policy.__qualname__}",
        )
        asynchronous = not cpu if settings.asynchronous is None else settings.asynchronous
        arguments: dict[str, Any] = {
            "model": first.source,
            "dtype": settings.dtype,
            "max_model_len": settings.max_model_len,
            "max_num_seqs": settings.max_num_seqs,
            "enforce_eager": cpu,
            "enable_prefix_caching": True,
            "kv_cache_memory_bytes": settings.kv_cache_gib << 30 if cpu else None,
            "disable_log_stats": True,
            "enable_sleep_mode": settings.shares_device and not cpu,
            "scheduling_policy": "priority",
            # vLLM keeps to the backend of its first request: this one knows most of JSON Schema. Small models fill
            # their answers with blank lines where these are allowed.
            "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
            "scheduler_cls": vllm_internals.scheduler_class(asynchronous),
            "worker_cls": vllm_internals.worker_class(),
            "additional_config": own.as_config(),
            **self._adapter_arguments(cpu),
            **settings.engine_args,
        }
        # vLLM's start blocks for tens of seconds; off the loop, so that health checks are answered meanwhile.
        args = AsyncEngineArgs(**arguments)
        config = await asyncio.to_thread(args.create_engine_config)
        config.scheduler_config.async_scheduling = asynchronous  # the CPU platform says no, and works with it
        loggers: list[Any] = []
        if settings.metrics:
            from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

            loggers.append(RayPrometheusStatLogger)
        self._llm = await asyncio.to_thread(partial(AsyncLLM.from_vllm_config, config, stat_loggers=loggers or None))
        self._context_length = config.model_config.max_model_len
        self._sleeps = config.model_config.enable_sleep_mode

    def _adapter_arguments(self, cpu: bool) -> dict[str, Any]:
        room = self._room = adapter_room(self._members.adapters())
        if room is None:
            return {}
        return {
            "enable_lora": True,
            "max_loras": room.slots if cpu else min(room.slots, 8),
            "max_cpu_loras": room.slots,
            "max_lora_rank": room.rank,
        }

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine`."""
        llm, serving = self._llm, self._serving
        if llm is None or llm.errored or serving is None:
            yield Failure("engine_starting", f"the engine of {call.expert} is starting; try again shortly")
            return
        served = serving.of(call.expert)
        if served is None:
            why = self._members.problems.get(call.expert, "it is not of this family")
            yield Failure("expert_unavailable", f"expert {call.expert} cannot answer: {why}")
            return
        with serving.bound(call.expert, served):
            async with contextlib.aclosing(self._generate(llm, served, call)) as events:
                async for event in events:
                    yield event

    async def _generate(self, llm: "AsyncLLM", served: Served, call: ChatCall) -> AsyncGenerator[Event, None]:
        chat = served.chat
        try:
            prompt = await asyncio.to_thread(chat.render, call)
            form = self._form(served, call)
        except UnusableChat as error:
            yield Failure("invalid_request", str(error))
            return
        try:
            arguments = chat.sampling(call.sampling, len(prompt))
        except UnusableChat as error:
            yield Failure("prompt_too_long", str(error))
            return
        # An ensemble may ask several experts of one engine for the same request.
        request_id = f"{call.request_id}/{call.expert}"
        self._unfinished[call.expert] += 1
        self._unserved.add(request_id)
        try:
            stream = self._answer(llm, served, call, request_id, prompt, {**arguments, "structured_outputs": form})
            async with contextlib.aclosing(stream):
                async for event in stream:
                    yield event
        finally:
            self._unfinished[call.expert] -= 1
            self._unserved.discard(request_id)

    async def _answer(
        self,
        llm: "AsyncLLM",
        served: Served,
        call: ChatCall,
        request_id: str,
        prompt: list[int],
        arguments: dict[str, Any],
    ) -> AsyncGenerator[Event, None]:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        # The family's experts may differ in end tokens and vocabulary, so ends and text are ours, not the engine's.
        chat, image = served.chat, served.image
        params = SamplingParams(
            **arguments,
            stop_token_ids=list(chat.stop_token_ids),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={EXPERT_KEY: call.expert, IMAGE_KEY: image, CALLER_KEY: call.caller},
        )
        request = tokens_input(prompt, cache_salt=served.salt)
        answer = Answer(chat, call, len(prompt))
        try:
            async with seconds_left(call):
                outputs = llm.generate(
                    request,
                    params,
                    request_id,
                    priority=call.priority,
                    lora_request=served.lora,
                )
                async with contextlib.aclosing(outputs):
                    async for output in outputs:
                        self._unserved.discard(request_id)
                        if delta := answer.push(output):
                            yield delta
                        if answer.reason is not None:
                            yield self._finish(call, image, answer, output)
                            return
        except TimeoutError:
            yield Failure("deadline", "the request's deadline passed before the answer was complete")
        except EngineDeadError:
            yield Failure("engine_died", f"the engine of {call.expert} went down while the request was running")
        except (ValueError, VLLMClientError) as error:  # parameters that vLLM refuses
            what = (
                "the form of the answer cannot be used" if arguments["structured_outputs"] else "the engine refuses it"
            )
            yield Failure("invalid_request", f"{what}: {one_line(error).partition(': ')[2]}")

    def _form(self, served: Served, call: ChatCall) -> Any:
        """vLLM's parameters for what the output is bound to, None for nothing. Raises UnusableChat."""
        form = (tool_calls.form_of(call.tools) if call.tools else None) or call.sampling.form
        if form is None:
            return None
        if not served.formable:
            raise UnusableChat(
                f"{call.expert} cannot be bound to a form: its tokens are not those of {self._first}, by which the "
                "engine of its family was started"
            )
        from vllm.sampling_params import StructuredOutputsParams

        return StructuredOutputsParams(json=form.schema, json_object=True if form.schema is None else None)

    def _finish(self, call: ChatCall, image: str, answer: Answer, output: Any) -> Event:
        told = output.kv_transfer_params or {}
        self._seconds.update(told.get(TIMES_KEY, {}))
        if (failure := told.get(FAILURE_KEY)) is not None:
            return Failure(*failure)
        if answer.reason not in get_args(FinishReason):
            return Failure("engine_died", f"the engine of {call.expert} ended the request: {answer.reason}")
        if told.get(STAMPS_KEY) != [image]:
            return Failure("internal", f"the answer of {call.expert} bears the stamps {told.get(STAMPS_KEY)}")
        return Finish(cast(FinishReason, answer.reason), call.expert, answer.usage, answer.phases)

    async def stats(self) -> WorkerStats:
        engine: dict[str, Any] = {}
        if self._llm is not None and self.is_alive() and self._up:
            with contextlib.suppress(Exception):  # an engine that dies now is told by is_alive
                engine = (await self._llm.collective_rpc("expert_stats"))[0]
        if not self._unfinished.total():
            engine["oldest_wait"] = 0.0  # the engine tells it with its steps, and there are none
        active = engine.pop("active", None)
        events = (SwapEvent(**event) for event in engine.pop("events", ()))
        return WorkerStats(
            family=self._family,
            tiers=self._tiers(engine.pop("tiers", {})),
            active=None if active is None else expert_of(active),
            events=tuple(replace(event, image=expert_of(event.image)) for event in events),
            running=self._unfinished.total() - len(self._unserved),
            waiting=len(self._unserved),
            queued_by_expert={name: n for name, n in self._unfinished.items() if n},
            request_seconds=dict(self._seconds),
            image_bytes=self._members.bytes | self._read(engine.pop("image_bytes", {})),
            room_bytes={"device": self._members.device_bytes, "host": self._settings.images.host},
            **engine,
        )

    def _tiers(self, images: dict[str, str]) -> dict[str, str]:
        members = self._members
        if self._serving is not None:
            return {name: self._serving.tier(spec, images) for name, spec in members.experts.items()}
        problems = {name: f"failed: {why}" for name, why in members.problems.items()}
        return {name: problems.get(name, "starting") for name in members.experts}

    def _read(self, images: dict[str, int]) -> dict[str, int]:
        return {} if self._serving is None else self._serving.of_experts(images)

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str] = frozenset()) -> None:
        """See `workers.base.Engine`. The image of an expert that is new is loaded when it is asked for."""
        self._settings = replace(self._settings, swap=replace(self._settings.swap, pinned=pinned))
        if self._serving is None:  # `start`, or `wake`, will read them
            self._members.experts = {spec.name: spec for spec in experts}
        else:
            await self._serving.adopt(experts, pinned)

    def is_alive(self) -> bool:
        return self._llm is not None and not self._llm.errored

    @property
    def keeps_requests(self) -> bool:
        """See `workers.base.SleepingEngine`."""
        return self._sleeps

    async def sleep(self) -> Literal["host", "disk"]:
        """See `workers.base.SleepingEngine`.

        CUDA: the weights go to host memory, the KV cache is given up; requests under way are frozen and computed again
        from their tokens after `wake`. That is level 1 of vLLM's sleep; level 2 drops the weights, and an engine that
        wakes from it answers nonsense. CPU: vLLM's sleep does nothing there, so the engine's processes are ended, and
        `wake` starts them again.
        """
        assert self._llm is not None
        if self._sleeps:
            await self._llm.sleep(level=1, mode="keep")
            return "host"
        await self._stop()
        self._members.problems.clear()  # what kept an expert away may be mended by then
        return "disk"

    async def wake(self) -> None:
        if self._llm is None:
            await self.start()
        else:
            await self._llm.wake_up()

    async def close(self) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._llm is not None:
            llm, self._llm = self._llm, None
            self._serving = None
            self._up = False
            await asyncio.to_thread(llm.shutdown)


def _free_memory(kv_cache_gib: int) -> int:
    """Bytes for images: 70 % of the memory that is free, without the KV cache."""
    return max(1, int(0.7 * free_memory()) - (kv_cache_gib << 30))
