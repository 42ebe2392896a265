"""What comes in over HTTP: bytes to a checked request.

The rule for OpenAI's fields: what is supported is checked; what only labels a request (user, metadata, ...) is accepted
and has no effect; what would change the answer and is not supported yet is an error unless it has its neutral value,
with which nothing is asked for. Any other field is an error that names it and what may have been meant.
Null stands for "not given" in every field that may be left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import pydantic_core
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from experts.registry import did_you_mean
from orchestrator.errors import ApiError, quote
from orchestrator.events import AUTO
from orchestrator.http.shapes import json_problem
from orchestrator.http.wire_coe import CoeOptions, Names, Options, Wire, as_written, check_names, problem_with
from orchestrator.http.wire_fields import NOT_YET, NOT_YET_IN_MESSAGE, is_neutral, refusal
from workers.base import Sampling

INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for.

    body_bytes: of the HTTP body. messages: of a chat. max_tokens: of an answer. timeout_s: seconds from admission to
    the end of the answer. keep_alive_s: longest silence on a stream, in seconds.
    """

    body_bytes: int
    messages: int
    max_tokens: int
    timeout_s: float
    keep_alive_s: float


def _content_text(content: Any) -> Any:
    """A message's content as one string; text parts are joined by newlines, as vLLM does for plain-text templates."""
    if not isinstance(content, list):
        if isinstance(content, str):
            return content
        raise PydanticCustomError("content_type", "must be a string or a list of text parts")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_audio", "file", "refusal"):
            raise PydanticCustomError(
                "unsupported_parameter", "part {index} is of type '{kind}'; only text is supported yet",
                {"index": index, "kind": kind},
            )  # fmt: skip
        if kind != "text" or not isinstance(part.get("text"), str) or part.keys() != {"type", "text"}:
            raise PydanticCustomError(
                "content_part", 'part {index} must be {"type": "text", "text": "..."}', {"index": index}
            )
        texts.append(part["text"])
    return "\n".join(texts)


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_content_text)]
    name: str | None = Field(None, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _neutral_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("role") in ("tool", "function"):
            raise PydanticCustomError("unsupported_parameter", "messages of tools are not supported yet")
        for field in NOT_YET_IN_MESSAGE.keys() & data.keys():
            if not is_neutral(data[field], NOT_YET_IN_MESSAGE[field]):
                raise PydanticCustomError("unsupported_parameter", "'{field}' is not supported yet", {"field": field})
        return {field: value for field, value in data.items() if field not in NOT_YET_IN_MESSAGE}

    @model_validator(mode="after")
    def _user_says_something(self) -> Self:
        if self.role == "user" and not self.content.strip():
            raise PydanticCustomError("empty", "the content of a user message must not be empty")
        return self

    def plain(self) -> dict[str, Any]:
        """As chat templates know it: 'developer' is OpenAI's newer word for 'system'."""
        plain = {"role": "system" if self.role == "developer" else self.role, "content": self.content}
        return plain if self.name is None else {**plain, "name": self.name}


class StreamOptions(Options):
    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Accepted; there is no obfuscation.")


class ChatRequest(Wire):
    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field([], max_length=16)
    priority: int = Field(0, ge=-1000, le=1000, description="vLLM's: lower goes first.")
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    coe: CoeOptions = CoeOptions()
    # Labels. Without effect, but that `user` and metadata's `conversation_id` tell conversations apart.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise PydanticCustomError("both", "'max_tokens' and 'max_completion_tokens' differ; give one of them")
        if not any(message.content.strip() for message in self.messages):
            raise PydanticCustomError("empty", "'messages' has no text in any message")
        if problem := problem_with(self.coe, self.model):
            raise PydanticCustomError("coe", "{problem}", {"problem": problem})
        return self

    @property
    def prompt(self) -> str:
        """What is to be answered: the last user message, else the last message with text."""
        by_user = [message.content for message in self.messages if message.role == "user"]
        return by_user[-1] if by_user else [m.content for m in self.messages if m.content.strip()][-1]

    @property
    def conversation(self) -> str | None:
        """The caller's own id of the conversation."""
        return (self.metadata or {}).get("conversation_id")

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens or self.max_completion_tokens,
            seed=self.seed,
            stop=tuple(self.stop),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )


class FeedbackRequest(Options):
    """What a user says of an answer. id: of the answer, or of its request; then one of score and thumbs."""

    id: str = Field(min_length=1, max_length=100)
    score: float | None = Field(None, ge=0, le=1)
    thumbs: Literal["up", "down"] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.thumbs is None):
            raise PydanticCustomError("one", "give one of 'score', from 0 to 1, and 'thumbs', 'up' or 'down'")
        return self

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return float(self.thumbs == "up") if self.score is None else self.score


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises ApiError (413) as soon as it is over the limit, or says that it will be."""
    text = f"the body has more than {limit} bytes, which is the limit"
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise ApiError("request_too_large", text)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            # It may have no end: the connection is of no more use.
            raise ApiError("request_too_large", text, headers={"connection": "close"})
    return bytes(body)


def parse_chat(body: bytes, limits: Limits, names: Names) -> ChatRequest:
    """The checked request. Raises ApiError (400)."""
    return _checked(_json_object(body), limits, names)


def parse_route(body: bytes, limits: Limits, names: Names) -> ChatRequest:
    """The body of /v1/route: that of a chat, or {"prompt": "..."}; the model is 'auto' if not given."""
    data = _json_object(body)
    data.setdefault("model", AUTO)
    if "prompt" in data and "messages" not in data:
        prompt = data.pop("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ApiError("invalid_value", f"prompt: must be a string with text; got {quote(prompt)}", "prompt")
        data["messages"] = [{"role": "user", "content": prompt}]
    return _checked(data, limits, names)


def parse_feedback(body: bytes) -> FeedbackRequest:
    """The body of /v1/feedback. Raises ApiError (400)."""
    try:
        return FeedbackRequest.model_validate(_json_object(body))
    except ValidationError as error:
        raise _from_pydantic(error) from None


def _json_object(body: bytes) -> dict[str, Any]:
    if problem := json_problem(body):
        raise ApiError("invalid_json", f"the body is too much to read: {problem}")
    try:
        # Refuses NaN, invalid UTF-8, lone surrogates and deep nesting, all as ValueError.
        data = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError("invalid_json", f"the body is not valid JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise ApiError("invalid_json", f"the body must be a JSON object; got {quote(data)}")
    return data


def _checked(data: dict[str, Any], limits: Limits, names: Names) -> ChatRequest:
    given = _without_neutral(data)
    if isinstance(messages := given.get("messages"), list) and len(messages) > limits.messages:
        # Before they are looked at: an error for each of very many takes long to write.
        text = f"messages: there are {len(messages)}; the limit is {limits.messages}"
        raise ApiError("invalid_value", text, "messages")
    try:
        request = ChatRequest.model_validate(given)
        check_names(request.coe, names)
    except ValidationError as error:
        raise as_written(_from_pydantic(error), given.get("coe")) from None
    except ApiError as error:
        raise as_written(error, given.get("coe")) from None
    for field in ("max_tokens", "max_completion_tokens"):
        if (wanted := getattr(request, field)) and wanted > limits.max_tokens:
            raise ApiError("invalid_value", f"{field}: got {quote(wanted)}; the limit is {limits.max_tokens}", field)
    if not request.stream and "stream_options" in given:
        raise ApiError("invalid_value", "stream_options: only allowed with 'stream': true", "stream_options")
    return request


def _without_neutral(data: Mapping[str, Any]) -> dict[str, Any]:
    """The supported fields that are given. Raises ApiError for all others, unless they ask for nothing."""
    given = {}
    for field, value in data.items():
        if field in ChatRequest.model_fields:
            if value is not None:
                given[field] = value
        elif field not in NOT_YET:
            known = [*ChatRequest.model_fields, *NOT_YET]
            shown = field[:100]
            raise ApiError("unknown_parameter", f"unknown field {quote(field)}{did_you_mean(field, known)}", shown)
        elif error := refusal(field, value, data):
            raise error
    return given


def _from_pydantic(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    param = ""
    for part in first["loc"]:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else part
    param = param[:100]  # a key of `metadata` may be of any length
    if first["type"] == "extra_forbidden":
        return ApiError("unknown_parameter", f"unknown field {quote(param)}", param)
    cause = "unsupported_parameter" if first["type"] == "unsupported_parameter" else "invalid_value"
    # The input of an error of the whole body or of a missing field is the object around it: of no help.
    is_whole = first["type"] == "missing" or isinstance(first["input"], dict)
    got = "" if is_whole else f"; got {quote(first['input'])}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ApiError(cause, f"{param}: {message}{got}" if param else message, param or None)
