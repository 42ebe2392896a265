"""The messages of a chat as they come in, and as experts get them: with text only, tool calls and their results."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Self

import pydantic_core
from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from typing_extensions import TypedDict

from orchestrator.http.wire_coe import EMPTY, Nullable, Wire, asks_nothing
from orchestrator.http.wire_fields import NOT_YET_IN_MESSAGE, is_neutral

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


NOT_TEXT = ("image_url", "input_image", "input_audio", "input_file", "file", "refusal")
"""Types of parts that OpenAI has and that are not supported yet."""


PART_KEYS = frozenset(("type", "text", "annotations", "logprobs"))
"""The last two are in parts of an answer, which clients send back as they came."""


class TextPart(TypedDict):
    """annotations, logprobs: without effect."""

    type: Literal["text"]
    text: str
    annotations: NotRequired[Any]
    logprobs: NotRequired[Any]


def joined(content: Any, kinds: Sequence[str] = ("text",)) -> str:
    """A message's content as one string; text parts, of these types, are joined by newlines, as vLLM does for
    plain-text templates. Raises PydanticCustomError."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise PydanticCustomError("content_type", "must be a string or a list of text parts")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in NOT_TEXT:
            raise PydanticCustomError(
                "unsupported_parameter", "part {index} is of type '{kind}'; only text is supported yet",
                {"index": index, "kind": kind},
            )  # fmt: skip
        if kind not in kinds or not isinstance(part.get("text"), str) or part.keys() - PART_KEYS:
            raise PydanticCustomError(
                "content_part", 'part {index} must be {"type": "{kind}", "text": "..."}',
                {"index": index, "kind": kinds[0]},
            )  # fmt: skip
        texts.append(part["text"])
    return "\n".join(texts)


def _an_object(text: str) -> str:
    try:
        found = pydantic_core.from_json(text or "{}", allow_inf_nan=False)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PydanticCustomError("arguments", "must be a JSON object, as a string")
    return text


Arguments = Annotated[str, AfterValidator(_an_object)]


class FunctionCall(Wire):
    name: FunctionName
    arguments: Arguments


class ToolCall(Wire):
    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = Field(None, description="Of a stream's chunks; without effect.")


class Message(Nullable):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(joined, json_schema_input_type=str | list[TextPart])]
    name: str | None = Field(None, max_length=64)
    tool_calls: list[ToolCall] = Field(default_factory=list, max_length=128, json_schema_extra=EMPTY)
    tool_call_id: str | None = Field(None, min_length=1, max_length=200)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = super().__get_pydantic_json_schema__(core_schema, handler)
        own = handler.resolve_ref_schema(made)
        # An assistant's message with calls needs no content.
        own["properties"]["content"] = {"anyOf": [*own["properties"]["content"]["anyOf"], {"type": "null"}]}
        own["required"] = ["role"]
        return made

    @classmethod
    def also(cls) -> Mapping[str, JsonSchemaValue]:
        return asks_nothing(NOT_YET_IN_MESSAGE)

    @model_validator(mode="before")
    @classmethod
    def _neutral_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("role") == "function":
            raise PydanticCustomError(
                "unsupported_parameter", "messages of the role 'function' are OpenAI's old form; use the role 'tool'"
            )
        for field in NOT_YET_IN_MESSAGE.keys() & data.keys():
            if not is_neutral(data[field], NOT_YET_IN_MESSAGE[field]):
                raise PydanticCustomError("unsupported_parameter", "'{field}' is not supported yet", {"field": field})
        given = {key: value for key, value in data.items() if key not in NOT_YET_IN_MESSAGE}
        given = {key: value for key, value in given.items() if value is not None or key in ("role", "content")}
        if given.get("tool_calls") and given.get("content") is None:
            given["content"] = ""
        return given

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> Self:
        if self.role == "user" and not self.content.strip():
            raise PydanticCustomError("empty", "the content of a user message must not be empty")
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError("role", "'tool_calls' is for messages of the role 'assistant'")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise PydanticCustomError("role", "'tool_call_id' is needed by the role 'tool', and by no other")
        return self

    def plain(self) -> dict[str, Any]:
        """As experts get it: OpenAI's message with text."""
        # 'developer' is OpenAI's newer word for 'system'; open models' chat templates know the older one.
        plain: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": self.content,
        }
        if self.name is not None:
            plain["name"] = self.name
        if self.tool_calls:
            plain["tool_calls"] = [call.model_dump(exclude={"index"}) for call in self.tool_calls]
        if self.tool_call_id is not None:
            plain["tool_call_id"] = self.tool_call_id
        return plain
