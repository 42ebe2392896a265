"""A request of HTTP to what was asked: its body to a checked object of `wire.py`, its header to a deadline."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import pydantic_core
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from experts.registry import did_you_mean
from orchestrator.errors import ApiError, quote
from orchestrator.http.shapes import json_problem
from orchestrator.http.wire import ChatRequest, FeedbackRequest, Generation, Limits, RouteRequest
from orchestrator.http.wire_coe import Names, as_written, check_names
from orchestrator.http.wire_fields import alone_with, refusal

TIMEOUT_HEADER = "x-coe-timeout-s"


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


def deadline(request: Request, limit_s: float) -> float:
    """When an answer is of no more use, in seconds of `time.time`: after its arrival what the header says, but no more
    than the limit. Raises ApiError."""
    arrived: float = request.state.arrived
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return arrived + limit_s
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        text = f"{TIMEOUT_HEADER}: got {quote(given)}; allowed: seconds, more than 0, of which {limit_s:g} count"
        raise ApiError("invalid_value", text, TIMEOUT_HEADER)
    return arrived + min(seconds, limit_s)


T = TypeVar("T", bound=Generation)


def parse(body: bytes, kind: type[T], limits: Limits, names: Names) -> T:
    """The checked request. Raises ApiError (400)."""
    return _checked(json_object(body), kind, limits, names)


def parse_object(data: dict[str, Any], kind: type[T], limits: Limits, names: Names) -> T:
    """The same of JSON that was read already. Raises ApiError (400)."""
    return _checked(data, kind, limits, names)


def parse_route(body: bytes, limits: Limits, names: Names) -> ChatRequest:
    """The body of /v1/route: that of a chat, or {"prompt": "..."}; the model is 'auto' if not given."""
    data = json_object(body)
    if "prompt" in data and "messages" not in data:
        prompt = data.pop("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ApiError("invalid_value", f"prompt: must be a string with text; got {quote(prompt)}", "prompt")
        data["messages"] = [{"role": "user", "content": prompt}]
    return _checked(data, RouteRequest, limits, names)


def parse_feedback(body: bytes) -> FeedbackRequest:
    """The body of /v1/feedback. Raises ApiError (400)."""
    try:
        return FeedbackRequest.model_validate(json_object(body))
    except ValidationError as error:
        raise from_pydantic(error) from None


def json_object(body: bytes) -> dict[str, Any]:
    """Raises ApiError (400)."""
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


def _checked(data: dict[str, Any], kind: type[T], limits: Limits, names: Names) -> T:
    given = _without_neutral(data, kind)
    if isinstance(messages := given.get("messages", given.get("input")), list) and len(messages) > limits.messages:
        # Before they are looked at: an error for each of very many takes long to write.
        field = "messages" if "messages" in given else "input"
        text = f"{field}: there are {len(messages)}; the limit is {limits.messages}"
        raise ApiError("invalid_value", text, field)
    try:
        request = kind.model_validate(given)
        if fields := request.alone:
            alone_with(fields[0], request.model, request.coe)
        request.check()
        check_names(request.coe, names)
    except ValidationError as error:
        raise as_written(from_pydantic(error), given.get("coe")) from None
    except PydanticCustomError as error:
        raise as_written(ApiError("invalid_value", error.message()), given.get("coe")) from None
    except ApiError as error:
        raise as_written(error, given.get("coe")) from None
    for field, wanted in request.most_tokens.items():
        if wanted and wanted > limits.max_tokens:
            raise ApiError("invalid_value", f"{field}: got {quote(wanted)}; the limit is {limits.max_tokens}", field)
    return request


@cache
def _fields_of(kind: type[Generation]) -> Mapping[str, None]:
    return dict.fromkeys(field.alias or name for name, field in kind.model_fields.items())


def _without_neutral(data: Mapping[str, Any], kind: type[Generation]) -> dict[str, Any]:
    """The supported fields that are given. Raises ApiError for all others, unless they ask for nothing."""
    known = _fields_of(kind)
    given = {}
    for field, value in data.items():
        if field in known:
            if value is not None:
                given[field] = value
        elif field not in kind.not_yet:
            shown = field[:100]
            hint = did_you_mean(field, [*known, *kind.not_yet])
            raise ApiError("unknown_parameter", f"unknown field {quote(field)}{hint}", shown)
        elif error := refusal(field, value, kind.not_yet[field]):
            raise error
    return given


def from_pydantic(error: ValidationError) -> ApiError:
    """The first thing that is wrong, told with its place."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ""
    for part in first["loc"]:
        if part != "[key]":  # pydantic's word for a key that is wrong, which stands before it
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
