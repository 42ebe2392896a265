"""The blocking client, and its stream."""

import random as randomness
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast

import httpx

from coe_client import batch, calls
from coe_client.answers import Answer
from coe_client.calls import Call, StreamCall, described
from coe_client.errors import CoeError, StreamBroken
from coe_client.options import ChatFields, ChatRequest, Messages
from coe_client.reading import Reading, Textual
from coe_client.retries import Backoff, Done, Failed, Send, Sleep, tries
from coe_client.settings import POOL, encoded, request_id_of, settings, timeouts

T = TypeVar("T")
E = TypeVar("E", bound=Textual)
P = ParamSpec("P")


class _Source(Generic[E]):
    """An open stream: pieces that wait to be read, and the connection that more come from."""

    def __init__(self, call: StreamCall[E], response: httpx.Response, until: float, now: Callable[[], float]) -> None:
        self.reading = Reading(call.pieces(), request_id_of(response.headers))
        self.ready: deque[E] = deque()
        self._response, self._bytes = response, response.iter_bytes()
        self._until, self._now = until, now

    def pull(self) -> None:
        """Reads until a piece is ready, or the stream is complete. Raises StreamBroken."""
        while not self.ready and not self.reading.ended:
            if self.reading.problem:
                raise self.reading.problem
            if self._now() > self._until:
                raise self.reading.lost("the time limit is over")
            try:
                data = next(self._bytes, None)
            except httpx.HTTPError as error:
                raise self.reading.lost(f"the connection was lost: {str(error) or type(error).__name__}") from error
            if data is None:
                raise self.reading.lost("the connection ended before the stream was complete")
            self.ready.extend(self.reading.feed(data))

    def close(self) -> None:
        self._response.close()


class Stream(Iterator[E], Generic[E]):
    """The pieces of an answer; then `answer` has all of it. Closing it ends the generation in the service as well.

    Use it as a context manager, so that it is closed however its reading ends.
    """

    def __init__(self, client: "Coe", call: StreamCall[E]) -> None:
        self._client, self._call = client, call
        self._source: _Source[E] | None = None
        self._closed = False

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises RuntimeError before the end; `partial` has what came by then."""
        if self._source is None or not self._source.reading.ended or self._source.ready:
            raise RuntimeError("the stream was not read to its end; read on, or take 'partial'")
        return self._source.reading.answer

    @property
    def partial(self) -> Answer:
        """The answer as far as it has come."""
        return (self._source.reading if self._source else Reading(self._call.pieces())).answer

    def texts(self) -> Iterator[str]:
        """The text alone, in pieces as they come."""
        return (piece.text for piece in self if piece.text)

    def read(self) -> Answer:
        """Reads to the end."""
        with self:
            for _ in self:
                pass
        return self.answer

    def close(self) -> None:
        self._closed = True
        if self._source is not None:
            self._source.close()

    def __next__(self) -> E:
        source = self._opened()
        if self._closed:
            raise StopIteration
        try:
            source.pull()
        except CoeError:
            self.close()
            raise
        if not source.ready:
            self.close()
            raise StopIteration
        return source.ready.popleft()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> _Source[E]:
        if self._source is None:
            if self._closed:
                raise RuntimeError("the stream was closed before it began")
            client, call = self._client, self._call
            content = encoded(call.call)
            self._source = client._try(call.call, lambda step: client._open_stream(call, content, step))
        return self._source


def _blocking(build: Callable[P, Call[T]]) -> "Callable[Concatenate[Coe, P], T]":
    """The method that sends what is built, and gives its result."""

    def method(self: "Coe", /, *args: P.args, **fields: P.kwargs) -> T:
        return self._run(build(*args, **fields))

    return described(method, build)


def _streamed(build: Callable[P, StreamCall[E]]) -> "Callable[Concatenate[Coe, P], Stream[E]]":
    """The method that gives the stream of what is built."""

    def method(self: "Coe", /, *args: P.args, **fields: P.kwargs) -> "Stream[E]":
        return Stream(self, build(*args, **fields))

    return described(method, build, Stream)


class Coe:
    """A Composition of Experts, asked over HTTP. Threads may share one; close it, or use it as a context manager.

    base_url: of the service, with or without /v1; else COE_URL, else http://127.0.0.1:8000. api_key: else COE_API_KEY.
    timeout: seconds for all tries of a request together, a stream's reading included. max_retries: after the first try.
    http_client: yours, which you close; transport: for a client of its own. The last four are for tests.

    Every method raises what `coe_client.errors` lists, and takes the fields of `CallFields`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        max_retries: int = 2,
        http_client: httpx.Client | None = None,
        transport: httpx.BaseTransport | None = None,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._settings = settings(base_url, api_key, timeout, max_retries, backoff, (clock, wall_clock, random))
        self._sleep = sleep
        self._owned = http_client is None
        self._http = http_client or httpx.Client(transport=transport, limits=POOL, trust_env=self._settings.trust_env)

    # Asking: see calls.py for what each takes and gives

    chat = _blocking(calls.chat)
    chat_stream = _streamed(calls.chat_stream)
    completions = _blocking(calls.completions)
    completions_stream = _streamed(calls.completions_stream)
    responses = _blocking(calls.responses)
    responses_stream = _streamed(calls.responses_stream)
    embeddings = _blocking(calls.embeddings)

    def chat_many(
        self,
        requests: Sequence[Messages | ChatRequest],
        *,
        concurrency: int = 8,
        on_progress: batch.OnProgress | None = None,
        raise_errors: bool = False,
        **fields: Unpack[ChatFields],
    ) -> list[batch.Outcome]:
        """Many chats, so many at a time; answers and errors in the order of the requests.

        requests: messages, or dicts of `messages` and fields, which go before the fields that all have in common.
        on_progress: called in this thread after each. raise_errors: the first error is raised, and no further request
        begun.
        """
        batch.checked(concurrency, fields)
        tally = batch.Tally(len(requests), on_progress, raise_errors=raise_errors)
        return batch.in_threads(requests, lambda one: self._run(batch.request(one, fields)), concurrency, tally)

    # Routing, feedback, state

    route = _blocking(calls.route)
    feedback = _blocking(calls.feedback)
    models = _blocking(calls.models)
    model = _blocking(calls.model)
    experts = _blocking(calls.experts)
    health = _blocking(calls.health)

    def close(self) -> None:
        """Closes the connections, unless they belong to your http_client."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.root!r})"

    # The way of a request

    def _run(self, call: Call[T]) -> T:
        content = encoded(call)
        return self._try(call, lambda step: self._send(call, content, step))

    def _try(self, call: Call[Any], send: Callable[[Send], Done[T] | Failed]) -> T:
        own = self._settings
        steps: Generator[Send | Sleep, Done[T] | Failed | None, T] = tries(
            max_retries=own.max_retries,
            timeout=own.limit(call),
            backoff=own.backoff,
            now=own.now,
            uniform=own.uniform,
        )
        step = next(steps)
        while True:
            outcome: Done[T] | Failed | None = None
            if isinstance(step, Sleep):
                self._sleep(step.seconds)
            else:
                outcome = send(step)
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return cast("T", end.value)

    def _send(self, call: Call[T], content: bytes | None, step: Send) -> Done[T] | Failed:
        until = self._settings.now() + step.left
        try:
            response = self._open(call, content, step, "application/json")
            try:
                body = self._body(response, until)
            finally:
                response.close()
        except httpx.HTTPError as error:
            return self._settings.failure(error)
        return self._settings.outcome(call, response.status_code, response.headers, body)

    def _open_stream(self, call: StreamCall[E], content: bytes | None, step: Send) -> Done[_Source[E]] | Failed:
        """The stream with its first piece read: until then another try is unseen by the caller."""
        until = self._settings.now() + step.left
        try:
            response = self._open(call.call, content, step, "text/event-stream")
        except httpx.HTTPError as error:
            return self._settings.failure(error)
        outcome: Done[_Source[E]] | Failed | None = None
        try:
            outcome = self._began(call, response, until)
        except httpx.HTTPError as error:
            outcome = self._settings.failure(error)
        finally:
            if not isinstance(outcome, Done):
                response.close()
        return outcome

    def _began(self, call: StreamCall[E], response: httpx.Response, until: float) -> Done[_Source[E]] | Failed:
        if not response.is_success:
            return self._settings.refusal(response.status_code, response.headers, self._body(response, until))
        if failed := self._settings.no_stream(response.headers):
            return failed
        source = _Source(call, response, until, self._settings.now)
        try:
            source.pull()
        except StreamBroken as error:
            return Failed(error, source.reading.again)
        return Done(source)

    def _open(self, call: Call[Any], content: bytes | None, step: Send, accept: str) -> httpx.Response:
        request = self._http.build_request(
            call.method,
            self._settings.root + call.path,
            content=content,
            headers=self._settings.headers(call, accept),
            timeout=timeouts(step.left),
        )
        return self._http.send(request, stream=True)

    def _body(self, response: httpx.Response, until: float) -> bytes:
        parts = []
        for part in response.iter_bytes():
            parts.append(part)
            if self._settings.now() > until:  # a body that trickles outlives every limit between two of its bytes
                raise httpx.ReadTimeout("the answer took too long")
        return b"".join(parts)
