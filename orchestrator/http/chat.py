"""Pipeline events as OpenAI writes them: one JSON object, or a stream of server-sent events."""

import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import orjson

from orchestrator.errors import ApiError, from_failure
from orchestrator.events import Answered, Ask, CallMade, PipelineEvent, Routed
from orchestrator.http.said import Choice, Said, call_parts_field, calls_field, logprobs_field
from workers.base import Delta, Failure, Phases, TokenLogprobs, Usage

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
MAX_HEADER = 200

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # nginx would hold small chunks back
}


def coe_field(routed: Routed, answered: Answered | None = None, *, explain: bool = False) -> dict[str, Any]:
    """The `coe` field of an answer, a stream's first and last chunk, and /v1/route: see docs/api.md."""
    route = routed.route
    expert = answered.winner if answered else route.experts[0] if len(route.experts) == 1 else None
    coe: dict[str, Any] = {
        "request_id": routed.request_id,
        "expert": expert,
        "experts": list(route.experts),
        "category": route.category,
        "probabilities": route.probabilities,
        "margin": route.margin,
        "reason": route.reason,
        "router": route.router,
        "aggregator": route.aggregator,
        "used": list(answered.used) if answered else [],
        "failed": answered.failed if answered else {},
        "usage_by_expert": {n: usage_field(u) for n, u in answered.usage_by_expert.items()} if answered else {},
        "calls": [_call_field(call) for call in answered.calls] if answered else [],
        "note": "; ".join(filter(None, (*routed.notes, answered.note if answered else ""))),
    }
    if explain:
        coe["explain"] = {
            "weights": {choice.expert: choice.weight for choice in route.choices},
            "skills": route.skills,
            "candidates": list(routed.candidates),
            "removed": routed.removed,
            "router_seconds": routed.seconds,
            "votes": answered.votes if answered else {},
            "scores": answered.scores if answered else {},
            "drafts": [{"expert": draft.expert, "text": draft.text} for draft in answered.drafts] if answered else [],
        }
    return coe


def _call_field(call: CallMade) -> dict[str, Any]:
    return {
        "expert": call.expert,
        "role": call.role,
        "usage": usage_field(call.usage) if call.usage else None,
        "seconds": round(call.seconds, 3),
        "cost": call.cost,
        "error": call.error,
        "phases": phases_field(call.phases),
    }


def phases_field(phases: Phases | None) -> dict[str, float] | None:
    """Seconds, to the tenth of a millisecond."""
    if phases is None:
        return None
    return {
        "queue": round(phases.queue, 4),
        "swap": round(phases.swap, 4),
        "prefill": round(phases.prefill, 4),
        "decode": round(phases.decode, 4),
    }


def usage_field(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class ChatWriter:
    """Writes one answer of /v1/chat/completions.

    A stream's first chunk carries the role and the `coe` field as far as it is known, that with the last finish reason
    all of it.
    """

    def __init__(self, ask: Ask, *, include_usage: bool, explain: bool) -> None:
        self._ask, self._include_usage, self._explain = ask, include_usage, explain
        self._created = int(time.time())
        self._model = ask.model
        self._routed: Routed | None = None

    def whole(self, routed: Routed, said: Said, answered: Answered) -> dict[str, Any]:
        """A `chat.completion`. Its model is the expert that answered; 'auto' if it is nobody's answer alone."""
        reasons = (answered.finish_reason, *answered.more)
        return {
            "id": completion_id(self._ask.request_id),
            "object": "chat.completion",
            "created": self._created,
            "model": answered.winner or self._ask.model,
            "choices": [
                {
                    "index": index,
                    "message": _message(choice),
                    "logprobs": logprobs_field(choice.logprobs) if self._with_logprobs else None,
                    "finish_reason": reason,
                }
                for index, (choice, reason) in enumerate(zip(said.choices, reasons, strict=True))
            ],
            "usage": usage_field(answered.usage),
            "coe": coe_field(routed, answered, explain=self._explain),
        }

    @property
    def _with_logprobs(self) -> bool:
        return self._ask.sampling.logprobs is not None

    def write(self, event: PipelineEvent) -> bytes:
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, Failure):
            return self.error(from_failure(event))
        if isinstance(event, Routed):
            self._routed = event
            coe = coe_field(event, explain=self._explain)
            self._model = coe["expert"] or self._ask.model
            first = {"role": "assistant", "content": ""}
            rest = [self._chunk(first, choice=choice) for choice in range(1, self._ask.n)]
            return b"".join((self._chunk(first, coe=coe), *rest))
        assert self._routed is not None
        coe = coe_field(self._routed, event, explain=self._explain)
        self._model = event.winner or self._ask.model
        *others, last_reason = (event.finish_reason, *event.more)
        chunks = [self._chunk({}, reason, choice) for choice, reason in enumerate(others)]
        chunks.append(self._chunk({}, last_reason, len(others), coe=coe))
        if self._include_usage:
            chunks.append(data({**self._head(), "choices": [], "usage": usage_field(event.usage)}))
        return b"".join((*chunks, DONE))

    def error(self, error: ApiError) -> bytes:
        """An error in the band, where the status has been sent already."""
        return data(error.body(self._ask.request_id)) + DONE

    def _delta(self, event: Delta) -> bytes:
        delta: dict[str, Any] = {"content": event.text} if event.text or not event.calls else {}
        if event.calls:
            delta["tool_calls"] = call_parts_field(event.calls)
        return self._chunk(delta, None, event.choice, event.logprobs)

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        choice: int = 0,
        logprobs: Sequence[TokenLogprobs] = (),
        **more: Any,
    ) -> bytes:
        written = {
            "index": choice,
            "delta": delta,
            "logprobs": logprobs_field(logprobs) if logprobs else None,
            "finish_reason": finish_reason,
        }
        if self._include_usage:
            more["usage"] = None
        return data({**self._head(), "choices": [written], **more})

    def _head(self) -> dict[str, Any]:
        return {
            "id": completion_id(self._ask.request_id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = calls_field(choice.calls)
    return message


def completion_id(request_id: str) -> str:
    return "chatcmpl-" + request_id.removeprefix("req-")


def request_id_of(answer_id: str) -> str:
    """The request that an answer belongs to; its own id is left as it is."""
    for prefix in ("chatcmpl-", "cmpl-", "resp_", "req-"):
        answer_id = answer_id.removeprefix(prefix)
    return "req-" + answer_id


def route_headers(request_id: str, routed: Routed | None, answered: Answered | None = None) -> dict[str, str]:
    """The x-coe-* headers, as far as they are known. Values are ASCII of at most MAX_HEADER characters."""
    headers = {"x-coe-request-id": request_id}
    if routed:
        route = routed.route
        headers["x-coe-expert"] = (answered and answered.winner) or ",".join(route.experts)
        headers["x-coe-category"] = route.category or ""
        headers["x-coe-reason"] = route.reason
        headers["x-coe-router"] = route.router
        headers |= routed.allowance.headers if routed.allowance else {}
    return {name: _ascii(value) for name, value in headers.items() if value}


def _ascii(text: str) -> str:
    """Letters lose their accents, other characters become '?', and what could end a header line a space."""
    plain = text[:MAX_HEADER]
    if plain.isascii() and plain.isprintable():
        return " ".join(plain.split())
    plain = unicodedata.normalize("NFKD", plain)
    plain = "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:MAX_HEADER]


def data(event: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + orjson.dumps(event) + b"\n\n"
