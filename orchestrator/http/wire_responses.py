"""The body of /v1/responses, OpenAI's newer form of a chat. Nothing is stored, so no response can be gone on with."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from orchestrator.http.wire import Generation
from orchestrator.http.wire_coe import Nullable, Options, Wire, one_of
from orchestrator.http.wire_forms import (
    MAX_TOOLS,
    Function,
    Schema,
    check_strict,
    form_of,
    functions_of,
    only_choices,
    only_functions,
)
from orchestrator.http.wire_messages import Arguments, FunctionName, joined
from workers.base import Form, Sampling, Tools

TEXT_PARTS = ("input_text", "output_text", "text")
OF_ANSWERS = ("id", "status", "phase")
"""Fields of an answer's items, which clients send back as they came."""
_PART: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"enum": [*TEXT_PARTS]}, "text": {"type": "string"}, "annotations": {}, "logprobs": {}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_TEXT: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}


class Item(Nullable):
    """A piece of the input: a message, a call of a function, or what it gave back."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: Annotated[str, WithJsonSchema(_TEXT)] = ""
    call_id: str = Field("", max_length=200)
    name: FunctionName | None = None
    arguments: Arguments = "{}"
    output: Annotated[str, WithJsonSchema(_TEXT)] = ""

    @classmethod
    def also(cls) -> Mapping[str, JsonSchemaValue]:
        return {name: {"description": "Without effect."} for name in OF_ANSWERS}

    @model_validator(mode="before")
    @classmethod
    def _as_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = data.get("type", "message")
        if kind not in ("message", "function_call", "function_call_output"):
            raise PydanticCustomError(
                "unsupported_parameter", "items of the type {kind} are not supported yet", {"kind": repr(kind)[:60]}
            )
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }[kind]
        for field in needed:
            if data.get(field) is None:
                raise PydanticCustomError(
                    "missing", "an item of the type '{kind}' needs '{field}'", {"kind": kind, "field": field}
                )
        # What an answer's items have beside these is sent back by clients as it came.
        given = {key: value for key, value in data.items() if key not in OF_ANSWERS and value is not None}
        if odd := sorted(map(str, given.keys() - {"type", *needed})):
            told = {"kind": kind, "field": odd[0][:100]}
            raise PydanticCustomError("odd", "an item of the type '{kind}' has no field '{field}'", told)
        for field in ("content", "output"):
            if field in given:
                given[field] = joined(given[field], TEXT_PARTS)
        return given

    @model_validator(mode="after")
    def _says_something(self) -> "Item":
        if self.type == "message" and self.role == "user" and not self.content.strip():
            raise PydanticCustomError("empty", "the content of a user message must not be empty")
        return self


class FunctionTool(Function):
    type: Literal["function"]

    _is_a_function = model_validator(mode="before")(only_functions)

    def plain(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True, exclude={"strict", "type"})


class NamedFunction(Wire):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


_SHAPE = '{"type": "function", "name": "..."}'
Choice = Annotated[
    Literal["none", "auto", "required"] | NamedFunction,
    one_of(f"must be 'none', 'auto', 'required' or {_SHAPE}"),
    only_choices(_SHAPE),
]


class TextFormat(Options):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: FunctionName | None = None
    description: str | None = None
    schema_: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "TextFormat":
        if (self.schema_ is None) == (self.type == "json_schema"):
            raise PydanticCustomError("format", "'schema' is needed by the type 'json_schema', and by no other")
        check_strict(self.strict, self.schema_)
        return self

    @property
    def form(self) -> Form | None:
        """None for plain text."""
        return None if self.type == "text" else form_of(self.schema_)


def _only_medium(verbosity: Any) -> Any:
    if verbosity in ("low", "high"):
        raise PydanticCustomError("unsupported_parameter", "is not supported yet; allowed: 'medium'")
    return verbosity


class TextOptions(Options):
    format: TextFormat = TextFormat()
    verbosity: Annotated[Literal["medium"], BeforeValidator(_only_medium)] = "medium"


class ResponseRequest(Generation):
    """See OpenAI's reference for the fields."""

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "background": (False,),
        "context_management": ([],),
        "conversation": (),
        "include": ([],),
        "max_tool_calls": (),
        "moderation": (),
        "previous_response_id": (),
        "prompt": (),
        "prompt_cache_options": (),
        "reasoning": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "stream_options": ({}, {"include_obfuscation": False}, {"include_obfuscation": True}),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    input: list[Item] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    tools: list[FunctionTool] = Field([], max_length=MAX_TOOLS)
    tool_choice: Choice | None = None
    parallel_tool_calls: bool = True
    text_: TextOptions = Field(TextOptions(), alias="text")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = super().__get_pydantic_json_schema__(core_schema, handler)
        fields = handler.resolve_ref_schema(made)["properties"]
        fields["input"] = {"anyOf": [{"type": "string", "pattern": r"\S"}, fields["input"]]}
        return made

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_message(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("input"), str):
            return {**data, "input": [{"role": "user", "content": data["input"]}]}
        return data

    def check(self) -> None:
        if not any(item.content.strip() for item in self.input):
            raise PydanticCustomError("empty", "'input' has no text in any message")
        tools = self.called_tools  # which tells what does not go together
        if self.form and tools and tools.choice == "required":
            raise PydanticCustomError("forms", "'text.format' does not go with a 'tool_choice' that demands a call")
        super().check()

    @property
    def form(self) -> Form | None:
        return self.text_.format.form

    @property
    def plain_messages(self) -> tuple[dict[str, Any], ...]:
        made: list[dict[str, Any]] = []
        if self.instructions:
            made.append({"role": "system", "content": self.instructions})
        for item in self.input:
            if item.type == "message":
                role = "system" if item.role == "developer" else item.role
                made.append({"role": role, "content": item.content})
            elif item.type == "function_call_output":
                made.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
            else:
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                if made and made[-1]["role"] == "assistant":  # what was said and called in one turn is one message
                    made[-1].setdefault("tool_calls", []).append(call)
                else:
                    made.append({"role": "assistant", "content": "", "tool_calls": [call]})
        return tuple(made)

    @property
    def called_tools(self) -> Tools | None:
        named = self.tool_choice.name if isinstance(self.tool_choice, NamedFunction) else None
        choice = "required" if isinstance(self.tool_choice, NamedFunction) else self.tool_choice
        return functions_of(list(self.tools), named, choice, self.parallel_tool_calls)

    @property
    def most_tokens(self) -> Mapping[str, int | None]:
        return {"max_output_tokens": self.max_output_tokens}

    @property
    def alone(self) -> Sequence[str]:
        given = {"tools": bool(self.tools), "text": self.form is not None}
        return [field for field, is_given in given.items() if is_given]

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_output_tokens, form=self.form)
