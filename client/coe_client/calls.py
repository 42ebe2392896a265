"""Requests as values: what each method sends, and how its answer is read. No I/O."""

import base64
import json
import sys
import uuid
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from coe_client.answers import (
    Answer,
    Embeddings,
    Expert,
    Feedback,
    Health,
    Model,
    Route,
    Usage,
    answer_from,
    answer_from_response,
    first_problem,
)
from coe_client.errors import InvalidAnswer, shown
from coe_client.options import Messages, Options

T = TypeVar("T")
Fields = Mapping[str, Any]

AUTO = "auto"
"""The model with which the router chooses."""
OF_THE_CALL = ("timeout", "idempotency_key", "extra_headers", "extra_body")
"""Fields of a method that are not sent in the body."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. read: makes the result of the JSON and the request id. accepts: statuses over 299 that answer too.

    The idempotency key stays the same over all tries; requests that only read have none.
    """

    method: str
    path: str
    read: Callable[[Any, str | None], T]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    accepts: tuple[int, ...] = ()

    def result(self, content: bytes, request_id: str | None) -> T:
        """Raises InvalidAnswer."""
        text = content.decode("utf-8", "replace")
        try:
            return self.read(json.loads(text), request_id)
        except ValidationError as error:
            problem = first_problem(error)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            problem = f"{type(error).__name__}: {error}"
        message = (
            f"{self.method} {self.path}: the answer is none of this service ({problem}); it begins {shown(text)!r}"
        )
        raise InvalidAnswer(message, body=text[:2000], request_id=request_id)


def chat(messages: Messages, fields: Fields, *, stream: bool = False) -> Call[Answer]:
    body = {"model": AUTO, "messages": conversation(messages), **_body(fields)}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True, **(body.get("stream_options") or {})}}
    return _post("/v1/chat/completions", body, fields, answer_from)


def completions(prompt: str | Sequence[str], fields: Fields) -> Call[Answer]:
    return _post("/v1/completions", {"model": AUTO, "prompt": prompt, **_body(fields)}, fields, answer_from)


def responses(given: str | Sequence[Mapping[str, Any]], fields: Fields) -> Call[Answer]:
    # The service keeps no responses; to say so is to get them from any service of this protocol.
    body = {"model": AUTO, "input": given, "store": False, **_body(fields)}
    return _post("/v1/responses", body, fields, answer_from_response)


def embeddings(given: str | Sequence[str], fields: Fields) -> Call[Embeddings]:
    return _post("/v1/embeddings", {"input": given, **_body(fields)}, fields, embeddings_from)


def route(prompt: Messages, fields: Fields) -> Call[Route]:
    body = {"model": AUTO, "messages": conversation(prompt), **_body(fields)}
    return _post("/v1/route", body, fields, lambda raw, _: Route.model_validate(raw))


def feedback(answer: str, fields: Fields) -> Call[Feedback]:
    body = {"id": answer, **{name: value for name, value in _body(fields).items() if value is not None}}
    return _post("/v1/feedback", body, fields, lambda raw, _: Feedback.model_validate(raw))


def models(fields: Fields) -> Call[tuple[Model, ...]]:
    return _get("/v1/models", fields, lambda raw, _: tuple(Model.model_validate(item) for item in raw["data"]))


def experts(fields: Fields) -> Call[tuple[Expert, ...]]:
    return _get("/v1/experts", fields, lambda raw, _: tuple(Expert.model_validate(item) for item in raw["data"]))


def health(fields: Fields) -> Call[Health]:
    call = _get("/health", fields, lambda raw, _: Health.model_validate(raw))
    return Call("GET", "/health", call.read, headers=call.headers, timeout=call.timeout, accepts=(503,))


def conversation(messages: Messages) -> list[Mapping[str, Any]]:
    """OpenAI's messages; a string is one of the user."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]


def embeddings_from(raw: Any, _request_id: str | None = None) -> Embeddings:
    """Vectors in the order of the inputs. Raises ValueError."""
    rows = sorted(raw["data"], key=lambda row: int(row.get("index") or 0))
    used = raw.get("usage")
    return Embeddings(
        vectors=tuple(_vector(row["embedding"]) for row in rows),
        model=str(raw.get("model") or ""),
        usage=Usage.model_validate(used) if used else None,
        raw=raw,
    )


def _vector(value: Any) -> tuple[float, ...]:
    if not isinstance(value, str):
        return tuple(map(float, value))
    numbers = array("f", base64.b64decode(value, validate=True))  # 32-bit floats, the smallest byte first
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


def _body(fields: Fields) -> dict[str, Any]:
    body = {name: _json(value) for name, value in fields.items() if name not in OF_THE_CALL}
    return {**body, **fields.get("extra_body", {})}


def _json(value: Any) -> Any:
    if isinstance(value, Options):
        return value.wire()
    if isinstance(value, type) and issubclass(value, BaseModel):
        schema = {"name": value.__name__, "schema": value.model_json_schema(), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return value


def _post(path: str, body: Mapping[str, Any], fields: Fields, read: Callable[[Any, str | None], T]) -> Call[T]:
    key = fields.get("idempotency_key") or uuid.uuid4().hex
    headers = {"idempotency-key": key, **fields.get("extra_headers", {})}
    return Call("POST", path, read, body=body, headers=headers, timeout=fields.get("timeout"))


def _get(path: str, fields: Fields, read: Callable[[Any, str | None], T]) -> Call[T]:
    return Call("GET", path, read, headers=fields.get("extra_headers", {}), timeout=fields.get("timeout"))
