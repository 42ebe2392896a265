"""The engine of a family: all its experts behind one vLLM AsyncLLM."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experts.spec import ExpertSpec
from workers.base import ChatCall, Delta, Event, Failure, Finish, Usage, WorkerStats, seconds_left
from workers.chat import ExpertChat, UnusableChat, is_checkpoint
from workers.swap_policy import SwapSettings

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


class NoExpertLoads(RuntimeError):
    """No expert of the family can be loaded, so there is no engine. The message says why for each."""


@dataclass(frozen=True)
class VllmSettings:
    """How a family's engine is set up.

    max_model_len: tokens, None = the checkpoint's; max_num_seqs: requests in a batch; kv_cache_gib: CPU only, GiB of
    KV cache; engine_args: further arguments of vLLM's AsyncEngineArgs, as they are.
    """

    dtype: str = "float32"
    max_model_len: int | None = None
    max_num_seqs: int = 16
    kv_cache_gib: int = 1
    swap: SwapSettings = field(default_factory=SwapSettings)
    engine_args: dict[str, Any] = field(default_factory=dict)


class VllmEngine:
    """One AsyncLLM that serves every expert of `family` by image swaps (see ``workers/vllm_internals.py``)."""

    def __init__(self, family: str, experts: Sequence[ExpertSpec], settings: VllmSettings) -> None:
        self._family = family
        self._experts = tuple(experts)
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._chats: dict[str, ExpertChat] = {}
        self._tiers: dict[str, str] = {spec.name: "starting" for spec in experts}
        self._up = False
        self._unfinished: Counter[str] = Counter()
        self._unserved: set[str] = set()  # ids of requests that vLLM has given no output for yet

    async def start(self) -> None:
        """Starts vLLM with the first expert whose checkpoint is whole, then loads the images of the others.

        Raises NoExpertLoads if none can be loaded.
        """
        usable = []
        for spec in self._experts:
            if spec.kind != "checkpoint":
                self._tiers[spec.name] = f"failed: kind {spec.kind!r} is not served by this engine yet"
            elif missing := is_checkpoint(spec.source):
                self._tiers[spec.name] = f"failed: {missing}"
            else:
                usable.append(spec)
        while usable:
            first = usable.pop(0)
            try:
                await self._start_with(first)
                break
            except Exception as error:
                self._tiers[first.name] = f"failed: {_one_line(error)}"
                await self.close()
        if self._llm is None:
            raise NoExpertLoads(
                f"family {self._family!r} has no engine: "
                + "; ".join(f"{name}: {tier.removeprefix('failed: ')}" for name, tier in self._tiers.items())
            )
        for spec in usable:
            problem = (await self._llm.collective_rpc("load_expert", args=(spec.name, spec.source)))[0]
            await self._admit(spec, problem)
        self._up = True

    async def _start_with(self, first: ExpertSpec) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        from workers import vllm_internals

        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        cpu = current_platform.is_cpu()
        if cpu:
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(self._settings.kv_cache_gib))
        arguments: dict[str, Any] = {
            "model": first.source,
            "dtype": self._settings.dtype,
            "max_model_len": self._settings.max_model_len,
            "max_num_seqs": self._settings.max_num_seqs,
            "enforce_eager": cpu,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "scheduler_cls": vllm_internals.scheduler_class(),
            "worker_cls": vllm_internals.worker_class(),
            "additional_config": {
                vllm_internals.SETTINGS_KEY: {
                    "first_expert": first.name,
                    "overhead": self._settings.swap.overhead,
                    "max_wait": self._settings.swap.max_wait,
                }
            },
            **self._settings.engine_args,
        }
        # vLLM's start blocks for tens of seconds; off the loop, so that health checks are answered meanwhile.
        args = AsyncEngineArgs(**arguments)
        config = await asyncio.to_thread(args.create_engine_config)
        self._llm = await asyncio.to_thread(AsyncLLM.from_vllm_config, config)
        self._context_length = config.model_config.max_model_len
        await self._admit(first, None)

    async def _admit(self, spec: ExpertSpec, problem: str | None) -> None:
        if problem is None:
            try:
                self._chats[spec.name] = await asyncio.to_thread(ExpertChat.load, spec, self._context_length)
            except (OSError, ValueError) as error:
                problem = _one_line(error)
        self._tiers[spec.name] = "device" if problem is None else f"failed: {problem}"

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine`."""
        llm = self._llm
        if llm is None or llm.errored:
            yield Failure("engine_starting", f"the engine of {call.expert} is starting; try again shortly")
            return
        chat = self._chats.get(call.expert)
        if chat is None:
            why = self._tiers.get(call.expert, "failed: it is not of this family").removeprefix("failed: ")
            yield Failure("expert_unavailable", f"expert {call.expert} cannot answer: {why}")
            return
        try:
            prompt = await asyncio.to_thread(chat.render, call.messages)
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
            stream = self._answer(llm, chat, call, request_id, prompt, arguments)
            async with contextlib.aclosing(stream):
                async for event in stream:
                    yield event
        finally:
            self._unfinished[call.expert] -= 1
            self._unserved.discard(request_id)

    async def _answer(
        self,
        llm: "AsyncLLM",
        chat: ExpertChat,
        call: ChatCall,
        request_id: str,
        prompt: list[int],
        arguments: dict[str, Any],
    ) -> AsyncGenerator[Event, None]:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        from workers.vllm_internals import EXPERT_KEY

        # The family's experts may differ in end tokens and vocabulary, so ends and text are ours, not the engine's.
        params = SamplingParams(
            **arguments,
            stop_token_ids=list(chat.stop_token_ids),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={EXPERT_KEY: call.expert},
        )
        request = tokens_input(prompt, cache_salt=call.expert)
        decoder = chat.decoder(call.sampling.stop)
        tokens = cached = 0
        try:
            async with seconds_left(call):
                outputs = llm.generate(request, params, request_id)
                async with contextlib.aclosing(outputs):
                    async for output in outputs:
                        self._unserved.discard(request_id)
                        completion = output.outputs[0]
                        tokens += len(completion.token_ids)
                        cached = max(cached, output.num_cached_tokens or 0)
                        if text := decoder.push(list(completion.token_ids)):
                            yield Delta(text)
                        if decoder.stopped:
                            yield _finish(call, "stop", output, Usage(len(prompt), tokens, cached))
                            return
                        if output.finished:
                            if rest := decoder.flush():
                                yield Delta(rest)
                            yield _finish(call, completion.finish_reason, output, Usage(len(prompt), tokens, cached))
                            return
        except TimeoutError:
            yield Failure("deadline", "the request's deadline passed before the answer was complete")
        except EngineDeadError:
            yield Failure("engine_died", f"the engine of {call.expert} went down while the request was running")
        except ValueError as error:  # vLLM's word for parameters that it refuses
            yield Failure("invalid_request", _one_line(error))

    async def stats(self) -> WorkerStats:
        engine: dict[str, Any] = {}
        if self._up and self.is_alive():
            assert self._llm is not None
            with contextlib.suppress(Exception):  # an engine that dies now is told by is_alive
                engine = (await self._llm.collective_rpc("expert_stats"))[0]
        return WorkerStats(
            family=self._family,
            tiers=dict(self._tiers),
            active=engine.get("active"),
            running=self._unfinished.total() - len(self._unserved),
            waiting=len(self._unserved),
            swaps=engine.get("swaps", 0),
            swap_seconds=engine.get("swap_seconds", 0.0),
            queued_by_expert={name: n for name, n in self._unfinished.items() if n},
        )

    def is_alive(self) -> bool:
        return self._llm is not None and not self._llm.errored

    async def close(self) -> None:
        if self._llm is not None:
            llm, self._llm = self._llm, None
            self._chats.clear()
            await asyncio.to_thread(llm.shutdown)


def _finish(call: ChatCall, reason: str | None, output: Any, usage: Usage) -> Event:
    from workers.vllm_internals import EXPERT_KEY

    stamps = (output.kv_transfer_params or {}).get(EXPERT_KEY)
    if reason in ("stop", "length") and stamps and len(stamps) == 1:
        return Finish("stop" if reason == "stop" else "length", stamps[0], usage)
    if reason in ("stop", "length"):
        return Failure("internal", f"the answer of {call.expert} bears the stamps {stamps}")
    return Failure("engine_died", f"the engine of {call.expert} ended the request: {reason}")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
