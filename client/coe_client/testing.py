"""A service without a service, for your tests: put answers in, ask the client, look at what was asked.

    service = MockService()
    service.answer("SELECT 1", expert="smol-sql")
    with service.client() as coe:
        assert coe.chat("hello").text == "SELECT 1"
    assert service.requests[0].json["messages"][0]["content"] == "hello"

Answers are taken in the order in which they were put in, one for each try. One that has no answer left raises
`NothingLeft`, unless `respond` was given, which makes answers of requests. Files and batches are kept, and each line of
a batch takes an answer as if it had been asked alone.
"""

import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from coe_client.aio import AsyncCoe
from coe_client.client import Coe
from coe_client.mock_batches import MockBatches
from coe_client.mock_wire import Said, events, whole

KEY = "mock-key"
URL = "http://coe.mock"


class NothingLeft(AssertionError):
    """A request came for which nothing was put in."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived. path: after the host, e.g. /v1/chat/completions."""

    method: str
    path: str
    headers: httpx.Headers
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content or b"null")


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. frames: sent one by one, as a stream. lost: the connection breaks after them."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[bytes, ...] = ()
    lost: bool = False


Answering = Callable[[Request], Reply]


class MockService:
    """Answers the requests of clients that have its `transport`, in this process and without a socket.

    requests: all that came, oldest first. closed: for each reply, whether its connection was closed.
    respond: answers when nothing is put in. batches: files and batches; see `batch_error`.
    """

    def __init__(self, respond: Answering | None = None) -> None:
        self.requests: list[Request] = []
        self.transport = httpx.MockTransport(self._handle)
        self._bodies: list[_Body] = []
        self._queue: deque[Answering] = deque()
        self._respond = respond
        self._lock = threading.Lock()
        self.batches = MockBatches(self._line)

    # Putting in

    def answer(self, text: str = "", **more: Any) -> None:
        """An answer, whole or as a stream of words, as it is asked for. more: see `answered`."""
        self._queue.append(lambda request: answered(request, text, **more))

    def stream(
        self, texts: Sequence[str], *, error: Mapping[str, Any] | None = None, lost: bool = False, **more: Any
    ) -> None:
        """A stream of these pieces. In place of its end an error is sent, or the connection is lost."""
        self._queue.append(lambda request: streamed(request, texts, error=error, lost=lost, **more))

    def error(
        self,
        status: int,
        code: str | None = None,
        message: str = "put in by a test",
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """An error of the service. headers: such as retry-after."""
        made = replied(_error(status, code, message, param), status=status, headers=headers)
        self._queue.append(lambda _: made)

    def batch_error(
        self,
        status: int,
        code: str | None = None,
        message: str = "put in by a test",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The same for the next request about files or batches."""
        self.batches.errors.append(replied(_error(status, code, message, None), status=status, headers=headers))

    def reply(self, body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Anything: JSON, or bytes as they are."""
        made = replied(body, status=status, headers=headers)
        self._queue.append(lambda _: made)

    def lose(self, error: type[httpx.TransportError] = httpx.ConnectError) -> None:
        """No answer: the connection fails."""

        def fail(_: Request) -> Reply:
            raise error("put in by a test")

        self._queue.append(fail)

    # Asking

    def client(self, **settings: Any) -> Coe:
        """A client of this service. settings: of `Coe`."""
        return Coe(URL, KEY, **{"transport": self.transport, **settings})

    def async_client(self, **settings: Any) -> AsyncCoe:
        """A client of this service. settings: of `AsyncCoe`."""
        return AsyncCoe(URL, KEY, **{"transport": self.transport, **settings})

    @property
    def closed(self) -> list[bool]:
        return [body.closed for body in self._bodies]

    @property
    def left(self) -> int:
        """Answers that were put in and not taken."""
        return len(self._queue)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        came = Request(request.method, request.url.path, request.headers, request.content)
        with self._lock:
            self.requests.append(came)
        reply = self.answered(came, str(request.url))
        body = _Body(reply)
        with self._lock:
            self._bodies.append(body)
        return httpx.Response(reply.status, headers=dict(reply.headers), stream=body)

    def answered(self, request: Request, url: str | None = None) -> Reply:
        """What it answers, for a server of your own. url: the path with its query, the path alone if not given."""
        return self._of_batches(request, url or request.path) or self._next(request)

    def _next(self, came: Request) -> Reply:
        with self._lock:
            respond = self._queue.popleft() if self._queue else self._respond
        if respond is None:
            raise NothingLeft(f"{came.method} {came.path}: request {len(self.requests)} has no answer; put one in")
        return respond(came)

    def _of_batches(self, came: Request, url: str) -> Reply | None:
        if not came.path.startswith(("/v1/files", "/v1/batches")):
            return None
        with self._lock:
            error = self.batches.errors.popleft() if self.batches.errors else None
        if error is not None:
            return error
        told = self.batches.handle(came, url)
        return None if told is None else replied(told[1], status=told[0])

    def _line(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and JSON of the answer to a line of a batch."""
        reply = self._next(Request("POST", path, httpx.Headers(), json.dumps(body).encode()))
        return reply.status, json.loads(b"".join(reply.frames))


def answered(
    request: Request,
    text: str = "",
    *,
    expert: str | None = "expert",
    finish_reason: str | None = None,
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    usage: tuple[int, int] = (3, 2),
    **coe: Any,
) -> Reply:
    """An answer to this request as the service writes it, in the form of the request's path: chat, completions or
    responses; JSON, or the same as a stream of words if the request asks for one.

    tool_calls: (name, arguments). usage: tokens of prompt and answer. coe: more of that field, such as category.
    """
    texts = [word if n == 0 else " " + word for n, word in enumerate(text.split(" "))] if text else []
    said = _said(request, texts, expert, finish_reason, tool_calls, usage, coe)
    return _stream(request, said) if request.json.get("stream") else replied(whole(request.path, said))


def streamed(
    request: Request,
    texts: Sequence[str],
    *,
    expert: str | None = "expert",
    finish_reason: str | None = None,
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    usage: tuple[int, int] = (3, 2),
    error: Mapping[str, Any] | None = None,
    lost: bool = False,
    **coe: Any,
) -> Reply:
    """A stream of these pieces as the service writes it. tool_calls: sent in fragments. error, lost: in place of its
    end an error is sent, or the connection is lost."""
    said = _said(request, texts, expert, finish_reason, tool_calls, usage, coe)
    return _stream(request, replace(said, error=error, lost=lost))


def _error(status: int, code: str | None, message: str, param: str | None) -> dict[str, Any]:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    kind = "server_error" if status >= 500 else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def replied(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    return Reply(status, {"content-type": kind, "x-request-id": "req-mock", **(headers or {})}, (content,))


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._reply.frames
        if self._reply.lost:
            raise httpx.ReadError("put in by a test")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self:
            yield frame

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def _said(
    request: Request,
    texts: Sequence[str],
    expert: str | None,
    finish_reason: str | None,
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]],
    usage: tuple[int, int],
    coe: Mapping[str, Any],
) -> Said:
    body = request.json
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(tool_calls)
    ]
    return Said(
        model=str(body.get("model")),
        expert=expert,
        texts=texts,
        calls=calls,
        finish_reason=finish_reason or ("tool_calls" if calls else "stop"),
        usage=usage,
        coe=coe,
        n=body.get("n") or 1,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _stream(request: Request, said: Said) -> Reply:
    frames = [
        b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events(request.path, said)
    ]
    if not said.lost and request.path != "/v1/responses":
        frames.append(b"data: [DONE]\n\n")
    headers = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req-mock"}
    return Reply(headers=headers, frames=tuple(frames), lost=said.lost)
