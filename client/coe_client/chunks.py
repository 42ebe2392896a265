"""A stream, put together: events to typed chunks, and all of them to the answer. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from coe_client.answers import Answer, Route, Usage, answer_from, first_problem
from coe_client.errors import StreamBroken, shown
from coe_client.sse import Events

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


class Reading:
    """The reader's side of one stream: give it bytes, get chunks.

    ended: the stream said that it is complete. problem: why it can go no further, to be raised after the chunks before.
    again: a new try may not meet that problem.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self.ended = False
        self.problem: StreamBroken | None = None
        self.again = False
        self._request_id = request_id
        self._events = Events()
        self._whole = _Whole()

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that these bytes complete."""
        chunks: list[Chunk] = []
        try:
            events = self._events.feed(data)
        except ValueError as error:
            self._unreadable(str(error))
            return chunks
        for event in events:
            if event == "[DONE]":
                self.ended = True
            elif chunk := self._chunk(event):
                chunks.append(chunk)
            if self.ended or self.problem:
                break
        return chunks

    def lost(self, why: str) -> StreamBroken:
        """The connection is gone, or was given up."""
        self.problem = self._broken(why)
        self.again = True
        return self.problem

    @property
    def answer(self) -> Answer:
        """As far as it has come."""
        return answer_from(self._whole.raw(), self._request_id)

    def _chunk(self, event: str) -> Chunk | None:
        """None for what is no chunk, which is then the problem."""
        try:
            raw = json.loads(event)
        except ValueError:
            raw = None
        if not isinstance(raw, dict):
            self._unreadable(f"an event is no JSON object: {shown(event)}")
            return None
        if raw.get("error"):
            error = raw["error"] if isinstance(raw["error"], dict) else {"message": str(raw["error"])}
            code = f"{error['code']}: " if error.get("code") else ""
            self.problem = self._broken(f"{code}{error.get('message') or shown(event)}", error)
            self.again = error.get("type") in AGAIN
            return None
        try:
            chunk = chunk_from(raw)
        except ValidationError as problem:
            self._unreadable(first_problem(problem))
            return None
        except (ValueError, TypeError, AttributeError) as problem:
            self._unreadable(str(problem))
            return None
        self._whole.add(chunk)
        return chunk

    def _unreadable(self, why: str) -> None:
        self.problem = self._broken(f"the stream is unreadable: {why}")

    def _broken(self, why: str, error: Mapping[str, Any] | None = None) -> StreamBroken:
        partial = self.answer
        return StreamBroken(why, partial=partial, error=error, request_id=partial.request_id)


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
    """The `chat.completion` that the chunks of a stream are the pieces of."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        for field in ("id", "created", "model", "usage", "coe", "system_fingerprint"):
            if chunk.raw.get(field):
                self._head[field] = chunk.raw[field]  # the last one knows most
        for part in chunk.parts:
            self._choices.setdefault(part.index, _Choice(part.index)).add(part)

    def raw(self) -> dict[str, Any]:
        choices = [self._choices[index].raw() for index in sorted(self._choices)]
        return {"object": "chat.completion", **self._head, "choices": choices}


class _Choice:
    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self._logprobs: dict[str, list[Any]] = {}

    def add(self, part: Part) -> None:
        self._texts.append(part.text)
        self._finish_reason = part.finish_reason or self._finish_reason
        for name, tokens in (part.logprobs or {}).items():
            if isinstance(tokens, list):
                self._logprobs.setdefault(name, []).extend(tokens)
        for call in part.tool_calls:
            known = self._calls.setdefault(call.index, {"id": "", "name": "", "arguments": []})
            known["id"] = call.id or known["id"]
            known["name"] = call.name or known["name"]
            known["arguments"].append(call.arguments)

    def raw(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts)}
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for _, call in sorted(self._calls.items())
            ]
        return {
            "index": self._index,
            "message": message,
            "logprobs": self._logprobs or None,
            "finish_reason": self._finish_reason,
        }
