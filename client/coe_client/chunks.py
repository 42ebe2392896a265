"""A stream of chats and completions: events to typed chunks, and all of them to the answer. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coe_client.answers import Answer, Route, Usage, answer_from
from coe_client.reading import Said

AGAIN = ("server_error", "rate_limit_error")
"""Types of errors in a stream that may not happen again."""


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of a tool call. index: of the call within its choice. id, name: in the first piece. arguments: JSON."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk brings to one choice. index: of the choice."""

    index: int
    text: str
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: str | None = None
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream.

    parts: of each choice that it is about. text, tool_calls, finish_reason: those of the first choice.
    route: who answers, in the first chunk; with calls and costs, in the last. usage: at the end, if it was asked for.
    """

    parts: tuple[Part, ...]
    model: str
    route: Route | None
    usage: Usage | None
    raw: Mapping[str, Any]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.index == 0)

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        return tuple(call for part in self.parts if part.index == 0 for call in part.tool_calls)

    @property
    def finish_reason(self) -> str | None:
        return next((part.finish_reason for part in self.parts if part.index == 0 and part.finish_reason), None)


class Chunks:
    """The `Pieces` of chats and completions, which end with `[DONE]`."""

    ended = False

    def __init__(self) -> None:
        self._whole = _Whole()

    def error(self, raw: Mapping[str, Any]) -> Said | None:
        if not raw.get("error"):
            return None
        error = raw["error"] if isinstance(raw["error"], dict) else {"message": str(raw["error"])}
        return Said(error, error.get("type") in AGAIN)

    def add(self, raw: Mapping[str, Any]) -> Chunk:
        chunk = chunk_from(raw)
        self._whole.add(chunk)
        return chunk

    def answer(self, request_id: str | None) -> Answer:
        return answer_from(self._whole.raw(), request_id)


def chunk_from(raw: Mapping[str, Any]) -> Chunk:
    """A chunk from a `chat.completion.chunk` or a streamed `text_completion`. Raises ValueError if it is none."""
    if not isinstance(raw.get("choices"), list):
        raise ValueError("a chunk has no 'choices'")
    return Chunk(
        parts=tuple(_part(choice) for choice in raw["choices"]),
        model=str(raw.get("model") or ""),
        route=Route.model_validate(raw["coe"]) if raw.get("coe") else None,
        usage=Usage.model_validate(raw["usage"]) if raw.get("usage") else None,
        raw=raw,
    )


def _part(choice: Mapping[str, Any]) -> Part:
    delta = choice.get("delta") or {}
    calls = []
    for place, call in enumerate(delta.get("tool_calls") or ()):
        function = call.get("function") or {}
        index = call["index"] if isinstance(call.get("index"), int) else place
        calls.append(ToolCallPart(index, call.get("id"), function.get("name"), function.get("arguments") or ""))
    return Part(
        index=int(choice.get("index") or 0),
        text=delta.get("content") or choice.get("text") or "",
        tool_calls=tuple(calls),
        finish_reason=choice.get("finish_reason"),
        logprobs=choice.get("logprobs"),
    )


class _Whole:
    """The `chat.completion`, or `text_completion`, that the chunks of a stream are the pieces of."""

    def __init__(self) -> None:
        self._kind = "chat.completion"
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        if chunk.raw.get("object") == "text_completion":
            self._kind = "text_completion"
        for field in ("id", "created", "model", "usage", "coe", "system_fingerprint"):
            if chunk.raw.get(field):
                self._head[field] = chunk.raw[field]  # the last one knows most
        for part in chunk.parts:
            self._choices.setdefault(part.index, _Choice(part.index)).add(part)

    def raw(self) -> dict[str, Any]:
        choices = [self._choices[index].raw(self._kind) for index in sorted(self._choices)]
        return {"object": self._kind, **self._head, "choices": choices}


class _Choice:
    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self._logprobs: dict[str, Any] = {}

    def add(self, part: Part) -> None:
        self._texts.append(part.text)
        self._finish_reason = part.finish_reason or self._finish_reason
        for name, tokens in (part.logprobs or {}).items():
            if isinstance(tokens, list) and self._logprobs.setdefault(name, []) is not None:
                self._logprobs[name].extend(tokens)
            else:
                self._logprobs.setdefault(name, tokens)
        for call in part.tool_calls:
            known = self._calls.setdefault(call.index, {"id": "", "name": "", "arguments": []})
            known["id"] = call.id or known["id"]
            known["name"] = call.name or known["name"]
            known["arguments"].append(call.arguments)

    def raw(self, kind: str) -> dict[str, Any]:
        text = "".join(self._texts)
        ended = {"index": self._index, "logprobs": self._logprobs or None, "finish_reason": self._finish_reason}
        if kind == "text_completion":
            return {**ended, "text": text}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for _, call in sorted(self._calls.items())
            ]
        return {**ended, "message": message}
