"""Tool calls out of what an expert writes: by vLLM's parser, or out of JSON that its output was bound to.

choice    the output                                       read by
auto      text, with calls in the expert's own format      `Parsed`: vLLM's parser of that name
a name    the arguments, as JSON after their schema        `Arguments`
required  [{"name": ..., "parameters": {...}}, ...]        `Listed`
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from workers.base import CallPart, Form, Tools

Output = tuple[str, tuple[CallPart, ...]]
"""What goes out: text, and pieces of calls."""

_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
_DECODER = json.JSONDecoder()


class UnknownParser(ValueError):
    """vLLM has no parser of that name. The message names those that it has."""


class Reader(Protocol):
    """Of one answer."""

    @property
    def called(self) -> bool:
        """Has it called a tool?"""
        ...

    def push(self, text: str, token_ids: Sequence[int]) -> Output:
        """What can go out once this text has come, decoded from these tokens."""
        ...

    def flush(self) -> Output:
        """What was held back, once no more text will come."""
        ...


def form_of(tools: Tools) -> Form | None:
    """What an output with these tools is bound to; None where the expert decides whether it calls one."""
    if tools.choice != "required":
        return None
    if tools.name is not None:
        [function] = [each for each in tools.functions if each["name"] == tools.name]
        return Form(json.dumps(_parameters(function)))
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": each["name"]}, "parameters": _parameters(each)},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        for each in tools.functions
    ]
    many: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    return Form(json.dumps(many if tools.parallel else {**many, "maxItems": 1}))


def _parameters(function: Mapping[str, Any]) -> Any:
    return function.get("parameters") or _NOTHING


def reader(tools: Tools, parser: str | None, tokenizer: Any) -> Reader | None:
    """None where the output is text whatever it says. parser: vLLM's name of the expert's format.

    Raises UnknownParser.
    """
    if tools.choice == "required":
        return Arguments(tools.name) if tools.name is not None else Listed()
    return Parsed(tools, parser, tokenizer) if tools.choice == "auto" and parser else None


def call_id() -> str:
    """A new one."""
    return f"call_{secrets.token_hex(12)}"


class Arguments:
    """The output is the arguments of the one function that had to be called."""

    called = True

    def __init__(self, name: str) -> None:
        self._name: str | None = name

    def push(self, text: str, token_ids: Sequence[int]) -> Output:
        if self._name is None:
            return "", (CallPart(0, text),)
        name, self._name = self._name, None
        return "", (CallPart(0, text, call_id(), name),)

    def flush(self) -> Output:
        return "", ()


class Listed:
    """The output is a list of calls, each of which goes out when it is whole."""

    def __init__(self) -> None:
        self._text, self._at, self._count = "", 0, 0

    @property
    def called(self) -> bool:
        return self._count > 0

    def push(self, text: str, token_ids: Sequence[int]) -> Output:
        self._text += text
        parts = []
        while "}" in text and (start := self._text.find("{", self._at)) >= 0:
            try:
                call, self._at = _DECODER.raw_decode(self._text, start)
            except ValueError:  # it is not whole yet
                break
            parts.append(CallPart(self._count, json.dumps(call["parameters"]), call_id(), call["name"]))
            self._count += 1
        return "", tuple(parts)

    def flush(self) -> Output:
        return "", ()


class Parsed:
    """The output is text with calls in a format that one of vLLM's parsers knows."""

    def __init__(self, tools: Tools, parser: str, tokenizer: Any) -> None:
        self._parallel = tools.parallel
        self._request, self._parser = _vllm(tools, parser, tokenizer)
        self._text, self._said, self._ids = "", "", list[int]()
        self.called = False

    def push(self, text: str, token_ids: Sequence[int]) -> Output:
        before, self._text = self._text, self._text + text
        ids_before, self._ids = self._ids, [*self._ids, *token_ids]
        said = self._parser.extract_tool_calls_streaming(
            before, self._text, text, ids_before, self._ids, list(token_ids), self._request
        )
        if said is None:
            return "", ()
        parts = [
            CallPart(
                call.index,
                (call.function.arguments if call.function else None) or "",
                call_id() if call.function and call.function.name else None,
                call.function.name if call.function else None,
            )
            for call in said.tool_calls or ()
            if self._parallel or call.index == 0
        ]
        self.called |= bool(parts)
        self._said += said.content or ""
        return said.content or "", tuple(parts)

    def flush(self) -> Output:
        # A parser holds back what may be the beginning of a call.
        is_held = not self.called and self._text.startswith(self._said)
        return self._text[len(self._said) :] if is_held else "", ()


def check_parser(name: str) -> None:
    """Raises UnknownParser."""
    from vllm.tool_parsers import ToolParserManager

    try:
        ToolParserManager.get_tool_parser(name)
    except KeyError:
        known = ", ".join(sorted(ToolParserManager.list_registered()))
        raise UnknownParser(f"tool_parser: got {name!r}; vLLM has {known}") from None


@cache
def _vllm_types() -> tuple[Any, Any]:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    return ChatCompletionRequest, ToolParserManager


def _vllm(tools: Tools, parser: str, tokenizer: Any) -> tuple[Any, Any]:
    """A request with these tools as vLLM's parsers want to see it, and a parser for one answer."""
    check_parser(parser)
    request_type, manager = _vllm_types()
    request = request_type(
        model="",
        messages=[{"role": "user", "content": ""}],
        tools=[{"type": "function", "function": function} for function in tools.functions],
    )
    return request, manager.get_tool_parser(parser)(tokenizer, request.tools)
