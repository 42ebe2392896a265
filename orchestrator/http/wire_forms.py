"""What binds an answer: tools, and the form of its text."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from experts.registry import did_you_mean
from orchestrator.errors import quote
from orchestrator.http.shapes import schema_problem
from orchestrator.http.strict import strict_problem
from orchestrator.http.wire_coe import Options, Wire, one_of
from orchestrator.http.wire_messages import FunctionName
from workers.base import Form, Tools

MAX_TOOLS = 128


def _schema(value: Any) -> Any:
    if problem := schema_problem(value):
        raise PydanticCustomError("schema", "the schema {problem}", {"problem": problem})
    return value


Schema = Annotated[dict[str, Any], BeforeValidator(_schema)]


def check_strict(strict: bool | None, schema: dict[str, Any] | None) -> None:
    """Raises PydanticCustomError for a schema that is not one for `strict`: true, where that is asked for."""
    if strict and schema is not None and (problem := strict_problem(schema)):
        told = "the schema is not one for 'strict': true: {problem}; change it, or leave 'strict' out"
        raise PydanticCustomError("strict", told, {"problem": problem})


class Function(Options):
    name: FunctionName
    description: str | None = Field(None, max_length=10_000)
    parameters: Schema | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _is_strict(self) -> Self:
        check_strict(self.strict, self.parameters)
        return self

    def plain(self) -> dict[str, Any]:
        """As templates get it."""
        return self.model_dump(exclude_none=True, exclude={"strict"})


def only_functions(tool: Any) -> Any:
    """Raises PydanticCustomError for OpenAI's other tools."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind != "function":
        told = "tools of the type {kind} are not supported yet; allowed: 'function'"
        raise PydanticCustomError("unsupported_parameter", told, {"kind": quote(kind)})
    return tool


class Tool(Wire):
    type: Literal["function"]
    function: Function

    _is_a_function = model_validator(mode="before")(only_functions)


class _Named(Wire):
    name: FunctionName


class NamedTool(Wire):
    """The function that must be called."""

    type: Literal["function"]
    function: _Named


def only_choices(shape: str) -> BeforeValidator:
    """shape: how the function that must be called is written."""

    def checked(choice: Any) -> Any:
        kind = choice.get("type") if isinstance(choice, dict) else None
        if isinstance(kind, str) and kind != "function":
            told = "the type {kind} is not supported yet; allowed: 'none', 'auto', 'required' or {shape}"
            raise PydanticCustomError("unsupported_parameter", told, {"kind": quote(kind), "shape": shape})
        return choice

    return BeforeValidator(checked)


_SHAPE = '{"type": "function", "function": {"name": "..."}}'
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool,
    one_of(f"must be 'none', 'auto', 'required' or {_SHAPE}"),
    only_choices(_SHAPE),
]


def tools_of(tools: list[Tool], choice: ToolChoice | None, parallel: bool) -> Tools | None:
    """None for no tools. Raises PydanticCustomError where they do not go together."""
    return functions_of(
        [tool.function for tool in tools],
        choice.function.name if isinstance(choice, NamedTool) else None,
        "required" if isinstance(choice, NamedTool) else choice,
        parallel,
    )


def functions_of(
    functions: list[Function], name: str | None, choice: Literal["none", "auto", "required"] | None, parallel: bool
) -> Tools | None:
    """The same for functions. name: of the one that must be called."""
    names = [function.name for function in functions]
    if not functions:
        if choice not in (None, "none", "auto"):
            raise PydanticCustomError("tools", "'tool_choice' needs 'tools'")
        return None
    for index, own in enumerate(names):
        if own in names[:index]:
            raise PydanticCustomError("tools", "'tools' has the function '{name}' twice", {"name": own})
    if name is not None and name not in names:
        hint = did_you_mean(name, names)
        raise PydanticCustomError(
            "tools", "'tool_choice' names '{name}', which is not in 'tools'{hint}", {"name": name[:64], "hint": hint}
        )
    return Tools(tuple(function.plain() for function in functions), choice or "auto", name, parallel)


class JsonSchema(Options):
    name: FunctionName
    description: str | None = None
    schema_: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _is_strict(self) -> Self:
        check_strict(self.strict, self.schema_)
        return self


class ResponseFormat(Options):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.json_schema is None) == (self.type == "json_schema"):
            raise PydanticCustomError("format", "'json_schema' is needed by the type 'json_schema', and by no other")
        return self

    @property
    def form(self) -> Form | None:
        """None for plain text."""
        if self.type == "text":
            return None
        return form_of(self.json_schema.schema_ if self.json_schema else None)


def form_of(schema: dict[str, Any] | None) -> Form:
    """schema: None for any JSON object."""
    return Form(None if schema is None else orjson.dumps(schema).decode())
