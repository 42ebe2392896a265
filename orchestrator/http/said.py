"""What an answer says, put together from its Deltas, in OpenAI's words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.base import CallPart, Delta, Logprob, TokenLogprobs


@dataclass
class Call:
    """A call of a tool, as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, part: CallPart) -> None:
        self.id, self.name = part.id or self.id, part.name or self.name
        self.arguments.append(part.arguments)

    @property
    def written(self) -> str:
        """The arguments, JSON."""
        return "".join(self.arguments)


@dataclass
class Choice:
    """One of a request's answers."""

    texts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def add(self, delta: Delta) -> None:
        if delta.text:
            self.texts.append(delta.text)
        for part in delta.calls:
            while len(self.calls) <= part.index:
                self.calls.append(Call())
            self.calls[part.index].add(part)
        self.logprobs.extend(delta.logprobs)


class Said:
    """All answers of a request."""

    def __init__(self, n: int) -> None:
        self.choices = [Choice() for _ in range(n)]

    def add(self, delta: Delta) -> None:
        self.choices[delta.choice].add(delta)


def calls_field(calls: list[Call]) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.written}}
        for call in calls
    ]


def call_parts_field(parts: Sequence[CallPart]) -> list[dict[str, Any]]:
    """Pieces of calls in a chunk of a stream, one of each call: clients take an entry that is the first of its index
    for a call of its own."""
    joined: dict[int, CallPart] = {}
    for part in parts:
        before = joined.get(part.index, CallPart(part.index))
        joined[part.index] = CallPart(
            part.index, before.arguments + part.arguments, before.id or part.id, before.name or part.name
        )
    return [_call_part_field(part) for part in joined.values()]


def _call_part_field(part: CallPart) -> dict[str, Any]:
    if part.name is None:
        return {"index": part.index, "function": {"arguments": part.arguments}}
    return {
        "index": part.index,
        "id": part.id,
        "type": "function",
        "function": {"name": part.name, "arguments": part.arguments},
    }


def logprobs_field(rows: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """Of a chat."""
    content = [{**_logprob(row.chosen), "top_logprobs": [_logprob(own) for own in row.top]} for row in rows]
    return {"content": content, "refusal": None}


def _logprob(own: Logprob) -> dict[str, Any]:
    return {"token": own.token, "logprob": own.logprob, "bytes": list(own.raw)}


def text_logprobs_field(rows: Sequence[TokenLogprobs], offset: int) -> dict[str, Any]:
    """Of a completion. offset: characters of the answer before these tokens."""
    offsets = []
    for row in rows:
        offsets.append(offset)
        offset += len(row.chosen.token)
    return {
        "tokens": [row.chosen.token for row in rows],
        "token_logprobs": [row.chosen.logprob for row in rows],
        "top_logprobs": [{own.token: own.logprob for own in (*row.top, row.chosen)} for row in rows],
        "text_offset": offsets,
    }
