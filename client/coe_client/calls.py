"""Requests as values: what each method of a client sends, and how its answer is read. No I/O.

A function here is a method of `Coe` and of `AsyncCoe`, which send what it builds. Its signature and its docstring are
theirs.
"""

import base64
import inspect
import json
import sys
import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, Unpack, get_args
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError

from coe_client.answers import (
    Answer,
    Decision,
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
from coe_client.chunks import Chunk, Chunks
from coe_client.errors import InvalidAnswer, shown
from coe_client.options import (
    CallFields,
    ChatFields,
    CompletionFields,
    EmbeddingFields,
    Messages,
    Options,
    ResponseFields,
    Thumbs,
)
from coe_client.reading import Pieces, Textual
from coe_client.response_events import ResponseEvent, ResponseEvents

T = TypeVar("T")
E = TypeVar("E", bound=Textual)
W = TypeVar("W", bound=BaseModel)
Method = TypeVar("Method")
Fields = Mapping[str, Any]

AUTO = "auto"
"""The model with which the router chooses."""
OF_THE_CALL = ("timeout", "idempotency_key", "extra_headers", "extra_body")
"""Fields of a method that are not sent in the body."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form with a file, called `name`. source: its bytes, where it lies, or values that make a line of JSON each."""

    fields: Mapping[str, str]
    name: str
    source: bytes | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. read: makes the result of the JSON and the request id. accepts: statuses over 299 that answer too.

    form: sent in place of `body`. sink: where the answer's bytes go; they are then no JSON, and `read` gets None.
    max_retries: the client's if None. The idempotency key stays the same over all tries; requests that only read have
    none.
    """

    method: str
    path: str
    read: Callable[[Any, str | None], T]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    accepts: tuple[int, ...] = ()
    form: Form | None = None
    sink: BinaryIO | None = None
    max_retries: int | None = None

    def result(self, content: bytes, request_id: str | None) -> T:
        """Raises InvalidAnswer."""
        if self.sink is not None:
            return self.read(None, request_id)
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


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[E]):
    """A request whose answer is a stream. pieces: makes what knows its events."""

    call: Call[Answer]
    pieces: Callable[[], Pieces[E]]


# Asking


def chat(messages: Messages, **fields: Unpack[ChatFields]) -> Call[Answer]:
    """Asks the model, `auto` if none is named. fields: OpenAI's, and `coe` for this service's own options."""
    return _post("/v1/chat/completions", {"messages": conversation(messages)}, fields, answer_from)


def chat_stream(messages: Messages, **fields: Unpack[ChatFields]) -> StreamCall[Chunk]:
    """`chat`, chunk by chunk. The request is sent on entering the stream, or with its first chunk."""
    return StreamCall(_with_usage(chat(messages, **fields)), Chunks)


def completions(prompt: str, **fields: Unpack[CompletionFields]) -> Call[Answer]:
    """Has one expert continue a text, without its chat template: OpenAI's older protocol."""
    return _post("/v1/completions", {"prompt": prompt}, fields, answer_from)


def completions_stream(prompt: str, **fields: Unpack[CompletionFields]) -> StreamCall[Chunk]:
    """`completions`, chunk by chunk."""
    return StreamCall(_with_usage(completions(prompt, **fields)), Chunks)


def responses(input: str | Sequence[Mapping[str, Any]], **fields: Unpack[ResponseFields]) -> Call[Answer]:
    """OpenAI's newer protocol, for text and tools, nothing stored. `answer.items` goes back into the input."""
    # The service keeps no responses; to say so is to get them from any service of this protocol.
    return _post("/v1/responses", {"input": input, "store": False}, fields, answer_from_response)


def responses_stream(
    input: str | Sequence[Mapping[str, Any]], **fields: Unpack[ResponseFields]
) -> StreamCall[ResponseEvent]:
    """`responses`, event by event."""
    return StreamCall(_streamed(responses(input, **fields)), ResponseEvents)


def embeddings(input: str | Sequence[str], *, model: str = AUTO, **fields: Unpack[EmbeddingFields]) -> Call[Embeddings]:
    """A vector for each text. model: the encoder of the service's router, which `auto` means too."""
    return _post("/v1/embeddings", {"model": model, "input": input}, fields, embeddings_from)


# Routing, feedback, state


def route(prompt: Messages, **fields: Unpack[ChatFields]) -> Call[Route]:
    """Which experts would answer, and why. Nothing is generated."""
    return _post("/v1/route", {"messages": conversation(prompt)}, fields, _as(Route))


def feedback(
    answer: Answer | str, *, score: float | None = None, thumbs: Thumbs | None = None, **fields: Unpack[CallFields]
) -> Call[Feedback]:
    """What a user says of an answer, or of the answer of this id: score from 0 to 1, or thumbs `up` or `down`."""
    said = {name: value for name, value in (("score", score), ("thumbs", thumbs)) if value is not None}
    return _post(
        "/v1/feedback", {"id": answer if isinstance(answer, str) else answer.id, **said}, fields, _as(Feedback)
    )


def explain(answer: Answer | str, **fields: Unpack[CallFields]) -> Call[Decision]:
    """The decision record of an answer, or of the answer or request of this id: why it came from where it came."""
    answer_id = answer if isinstance(answer, str) else answer.id
    return _get(f"/v1/routes/{quote(answer_id, safe='')}", fields, _as(Decision))


def routes(
    *,
    expert: str | None = None,
    category: str | None = None,
    outcome: str | None = None,
    model: str | None = None,
    key: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    **fields: Unpack[CallFields],
) -> Call[tuple[Decision, ...]]:
    """Decision records of the key, the newest first; of all keys, or of a lineage, with the scope `admin`. after: the
    id of the last one of the page before; limit: of a page."""
    path = with_query(
        "/v1/routes", expert=expert, category=category, outcome=outcome, model=model, key=key, after=after, limit=limit
    )
    return _get(path, fields, _all_as(Decision))


def models(**fields: Unpack[CallFields]) -> Call[tuple[Model, ...]]:
    """What the key may ask: `auto`, ensembles, experts, the encoder."""
    return _get("/v1/models", fields, _all_as(Model))


def model(name: str, **fields: Unpack[CallFields]) -> Call[Model]:
    """One of them."""
    return _get(f"/v1/models/{quote(name, safe='/')}", fields, _as(Model))


def experts(**fields: Unpack[CallFields]) -> Call[tuple[Expert, ...]]:
    """The state of every expert."""
    return _get("/v1/experts", fields, _all_as(Expert))


def health(**fields: Unpack[CallFields]) -> Call[Health]:
    """Whether every expert can answer. Not being ready is an answer, not an error."""
    return replace(_get("/health", fields, _as(Health)), accepts=(503,))


# Their parts


def described(method: Method, build: Callable[..., Any], stream: Any = None) -> Method:
    """A client's method with the name, the docstring and the signature of the function here that builds its request.

    stream: the generic class of what the method gives; else it gives what the request is answered with.
    """
    plain = inspect.signature(build)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    [answered] = get_args(plain.return_annotation)
    function: Any = method
    function.__name__, function.__doc__ = build.__name__, build.__doc__
    function.__signature__ = plain.replace(
        parameters=[own, *plain.parameters.values()], return_annotation=stream[answered] if stream else answered
    )
    return method


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
        truncated=tuple((raw.get("coe") or {}).get("truncated") or ()),
        raw=raw,
    )


def _vector(value: Any) -> tuple[float, ...]:
    if not isinstance(value, str):
        return tuple(map(float, value))
    numbers = array("f", base64.b64decode(value, validate=True))  # 32-bit floats, the smallest byte first
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


def with_query(path: str, **query: Any) -> str:
    """The path with what is given."""
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{path}?{given}" if given else path


def _with_usage(call: Call[Answer]) -> Call[Answer]:
    """Streamed, and its last chunk has the usage."""
    streamed = _streamed(call)
    options = {"include_usage": True, **((call.body or {}).get("stream_options") or {})}
    return replace(streamed, body={**(streamed.body or {}), "stream_options": options})


def _streamed(call: Call[Answer]) -> Call[Answer]:
    return replace(call, body={**(call.body or {}), "stream": True})


def _body(fields: Fields) -> dict[str, Any]:
    body = {name: _json(name, value) for name, value in fields.items() if name not in OF_THE_CALL}
    return {**body, **fields.get("extra_body", {})}


def _json(name: str, value: Any) -> Any:
    if isinstance(value, Options):
        return value.wire()
    if isinstance(value, type) and issubclass(value, BaseModel):
        schema = {"name": value.__name__, "schema": value.model_json_schema()}
        if name == "text":  # of a response
            return {"format": {"type": "json_schema", **schema}}
        return {"type": "json_schema", "json_schema": schema}
    return value


def _post(path: str, body: Fields, fields: Fields, read: Callable[[Any, str | None], T]) -> Call[T]:
    """body: what the method itself says; the model is `auto` if nothing says otherwise."""
    key = fields.get("idempotency_key") or uuid.uuid4().hex
    headers = {"idempotency-key": key, **fields.get("extra_headers", {})}
    asked = {} if path == "/v1/feedback" else {"model": AUTO}
    return Call("POST", path, read, {**asked, **body, **_body(fields)}, headers, fields.get("timeout"))


def _get(path: str, fields: Fields, read: Callable[[Any, str | None], T]) -> Call[T]:
    return Call("GET", path, read, headers=fields.get("extra_headers", {}), timeout=fields.get("timeout"))


def _as(kind: type[W]) -> Callable[[Any, str | None], W]:
    return lambda raw, _: kind.model_validate(raw)


def _all_as(kind: type[W]) -> Callable[[Any, str | None], tuple[W, ...]]:
    return lambda raw, _: tuple(kind.model_validate(item) for item in raw["data"])
