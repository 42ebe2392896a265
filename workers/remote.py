"""Remote experts: any LangChain chat model as an engine."""

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experts.spec import ExpertSpec
from workers.base import (
    CallPart,
    ChatCall,
    Delta,
    Event,
    Failure,
    FailureCode,
    Finish,
    FinishReason,
    Form,
    Logprob,
    Phases,
    TokenLogprobs,
    Usage,
    WorkerStats,
    seconds_left,
)
from workers.chat import StopAt

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class RemoteEngine:
    """Serves remote experts. Their weights are elsewhere: nothing is loaded, swapped or restarted."""

    def __init__(self, family: str, experts: Sequence[ExpertSpec]) -> None:
        self._family = family
        self._experts = {spec.name: spec for spec in experts}
        self._models: dict[str, BaseChatModel] = {}
        self._tiers: dict[str, str] = {}
        self._running: Counter[str] = Counter()

    async def start(self) -> None:
        for spec in self._experts.values():
            self._make(spec)

    def _make(self, spec: ExpertSpec) -> None:
        try:
            self._models[spec.name] = make_model(spec)
            self._tiers[spec.name] = "remote"
        except Exception as error:
            # The class is the user's: whatever it raises concerns this expert alone.
            self._models.pop(spec.name, None)
            self._tiers[spec.name] = f"failed: {type(error).__name__}: {_without_values(str(error), spec)}"

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str] = frozenset()) -> None:
        """See `workers.base.Engine`. A call goes on with the model that it began with."""
        former, self._experts = self._experts, {spec.name: spec for spec in experts}
        for name in former.keys() - self._experts.keys():
            self._models.pop(name, None)
            del self._tiers[name]
        for spec in experts:
            if spec != former.get(spec.name) or spec.name not in self._models:
                self._make(spec)

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine`."""
        model, spec = self._models.get(call.expert), self._experts.get(call.expert)
        if model is None or spec is None:
            why = self._tiers.get(call.expert, "it is not known here").removeprefix("failed: ")
            yield Failure("expert_unavailable", f"expert {call.expert} cannot answer: {why}")
            return
        self._running[call.expert] += 1
        try:
            async with contextlib.aclosing(self._answer(model, spec, call)) as events:
                async for event in events:
                    yield event
        finally:
            self._running[call.expert] -= 1

    async def _answer(self, model: "BaseChatModel", spec: ExpertSpec, call: ChatCall) -> AsyncGenerator[Event, None]:
        stop = StopAt((*call.sampling.stop, *spec.sampling.stop))
        prompt_tokens = completion_tokens = 0
        limited = called = False
        began, first = time.monotonic(), 0.0
        try:
            async with seconds_left(call):
                async for chunk in _with_tools(model, call).astream(list(call.messages), **_arguments(call, spec)):
                    if usage := chunk.usage_metadata:
                        prompt_tokens += usage["input_tokens"]
                        completion_tokens += usage["output_tokens"]
                    limited |= chunk.response_metadata.get("finish_reason") == "length"
                    text, calls = stop.push(chunk.text), tuple(map(_call_part, _call_chunks(chunk)))
                    called |= bool(calls)
                    logprobs = _logprobs(chunk.response_metadata)
                    if text or calls or logprobs:
                        first = first or time.monotonic()
                        yield Delta(text, calls=calls, logprobs=logprobs)
                    if stop.stopped:
                        break
        except TimeoutError:
            yield Failure("deadline", "the request's deadline passed before the answer was complete")
            return
        except Exception as error:
            # Providers' clients share no base class; their texts may quote the request, so only the kind goes out.
            yield Failure(_code(error), f"the remote expert {call.expert} failed: {type(error).__name__}")
            return
        if rest := stop.flush():
            yield Delta(rest)
        reason: FinishReason = "length" if limited else "tool_calls" if called else "stop"
        ended = time.monotonic()
        phases = Phases(prefill=(first or ended) - began, decode=ended - (first or ended))
        yield Finish(reason, call.expert, Usage(prompt_tokens, completion_tokens), phases)

    async def stats(self) -> WorkerStats:
        return WorkerStats(
            self._family,
            dict(self._tiers),
            running=self._running.total(),
            queued_by_expert={name: n for name, n in self._running.items() if n},
        )

    def is_alive(self) -> bool:
        return True

    async def close(self) -> None:
        self._models.clear()


def _code(error: Exception) -> FailureCode:
    """Whose fault it is: the request's where the provider's status says so, else the provider's.

    The clients of most providers have `status_code` on the error, or on its `response` as httpx does.
    """
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return "invalid_request" if status in (400, 413, 422) else "expert_unavailable"


def make_model(spec: ExpertSpec) -> "BaseChatModel":
    """The chat model that `spec` names, with 'env:NAME' options read from the environment.

    Raises ImportError or AttributeError for a class that is not there, KeyError for a variable that is not set.
    """
    module, _, name = spec.source.partition(":")
    kind = getattr(import_module(module), name)
    model: BaseChatModel = kind(**{key: _resolved(value) for key, value in spec.options.items()})
    return model


def _resolved(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise KeyError(f"the environment variable {name} is not set")
        return os.environ[name]
    return value


def _without_values(text: str, spec: ExpertSpec) -> str:
    """`text` without the values of the options, which may be secrets."""
    for value in spec.options.values():
        for secret in (value, os.environ.get(str(value).removeprefix("env:"), "")):
            if isinstance(secret, str) and len(secret) > 3 and not secret.startswith("env:"):
                text = text.replace(secret, "...")
    return text[:500]


def _with_tools(model: "BaseChatModel", call: ChatCall) -> Any:
    """The model with the call's tools. What it raises is told as its failure."""
    if call.tools is None or call.tools.choice == "none":
        return model
    tools = [{"type": "function", "function": function} for function in call.tools.functions]
    more: dict[str, Any] = {} if call.tools.parallel else {"parallel_tool_calls": False}
    if call.tools.choice == "required":
        more["tool_choice"] = call.tools.name or "any"
    return model.bind_tools(tools, **more)


def _call_chunks(chunk: Any) -> list[dict[str, Any]]:
    return list(getattr(chunk, "tool_call_chunks", ()))


def _call_part(chunk: dict[str, Any]) -> CallPart:
    return CallPart(chunk.get("index") or 0, chunk.get("args") or "", chunk.get("id"), chunk.get("name"))


def _logprobs(metadata: dict[str, Any]) -> tuple[TokenLogprobs, ...]:
    """As providers with OpenAI's API tell them."""
    rows = (metadata.get("logprobs") or {}).get("content") or ()
    return tuple(TokenLogprobs(_logprob(row), tuple(map(_logprob, row.get("top_logprobs") or ()))) for row in rows)


def _logprob(row: dict[str, Any]) -> Logprob:
    raw = row.get("bytes")
    return Logprob(row["token"], row["logprob"], row["token"].encode() if raw is None else bytes(raw))


def _form(form: Form) -> dict[str, Any]:
    """As OpenAI's API and those that follow it take it."""
    if form.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(form.schema), "strict": True}}


def _arguments(call: ChatCall, spec: ExpertSpec) -> dict[str, Any]:
    """What the caller asked, else the spec's defaults; what neither says is the provider's business."""
    asked, own = call.sampling, spec.sampling
    wanted = {
        "temperature": asked.temperature if asked.temperature is not None else own.temperature,
        "top_p": asked.top_p if asked.top_p is not None else own.top_p,
        "max_tokens": asked.max_tokens or own.max_tokens,
        "seed": asked.seed,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in asked.logit_bias} or None,
        "logprobs": None if asked.logprobs is None else True,
        "top_logprobs": asked.logprobs or None,
        "response_format": None if asked.form is None else _form(asked.form),
    }
    return {key: value for key, value in wanted.items() if value is not None}
