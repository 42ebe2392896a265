"""The blocking client, and its stream."""

import random as randomness
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, Unpack

import httpx

from coe_client import batch_calls, batches, calls, many
from coe_client.answers import Answer
from coe_client.batch_answers import Batch, File, Result
from coe_client.calls import Call, StreamCall, described
from coe_client.core import Core, Source
from coe_client.errors import CoeError
from coe_client.io import Blocking, finished
from coe_client.options import CallFields, ChatFields, ChatRequest, Messages
from coe_client.reading import Reading, Textual
from coe_client.retries import Backoff
from coe_client.settings import POOL, settings

T = TypeVar("T")
E = TypeVar("E", bound=Textual)
P = ParamSpec("P")


class Stream(Iterator[E], Generic[E]):
    """The pieces of an answer; then `answer` has all of it. Closing it ends the generation in the service as well.

    Use it as a context manager, so that it is closed however its reading ends.
    """

    def __init__(self, client: "Coe", call: StreamCall[E]) -> None:
        self._client, self._call = client, call
        self._source: Source[E] | None = None
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
            finished(self._source.close())

    def __next__(self) -> E:
        source = self._opened()
        if self._closed:
            raise StopIteration
        try:
            finished(source.pull())
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

    def _opened(self) -> Source[E]:
        if self._source is None:
            if self._closed:
                raise RuntimeError("the stream was closed before it began")
            self._source = finished(self._client._core.open(self._call))
        return self._source


class _Asking(Protocol):
    _core: Core


def _blocking(build: Callable[P, Call[T]]) -> Callable[Concatenate[_Asking, P], T]:
    """The method that sends what is built, and gives its result."""

    def method(self: _Asking, /, *args: P.args, **fields: P.kwargs) -> T:
        return finished(self._core.run(build(*args, **fields)))

    return described(method, build)


def _streamed(build: Callable[P, StreamCall[E]]) -> "Callable[Concatenate[Coe, P], Stream[E]]":
    """The method that gives the stream of what is built."""

    def method(self: "Coe", /, *args: P.args, **fields: P.kwargs) -> "Stream[E]":
        return Stream(self, build(*args, **fields))

    return described(method, build, Stream)


class Files:
    """`Coe.files`: what batches read and write."""

    def __init__(self, core: Core) -> None:
        self._core = core

    upload = _blocking(batch_calls.upload)
    list = _blocking(batch_calls.files)
    get = _blocking(batch_calls.file)
    delete = _blocking(batch_calls.delete_file)

    def content(self, file: File | str, **fields: Unpack[CallFields]) -> bytes:
        """What is in a file."""
        return finished(batches.content(self._core, file, fields))

    def download(self, file: File | str, path: str | PathLike[str], **fields: Unpack[CallFields]) -> None:
        """Writes what is in a file to a file of yours, which is whole or not there."""
        finished(batches.download(self._core, file, path, fields))


class Batches:
    """`Coe.batches`: many requests as one job, which the service runs expert by expert."""

    def __init__(self, core: Core) -> None:
        self._core = core

    create = _blocking(batch_calls.create)
    list = _blocking(batch_calls.batches)
    get = _blocking(batch_calls.batch)
    cancel = _blocking(batch_calls.cancel)

    def wait(
        self,
        batch: Batch | str,
        *,
        poll: float = 1.0,
        timeout: float | None = None,
        on_progress: batches.OnProgress | None = None,
    ) -> Batch:
        """The batch at its end, however it ended. A service that is away meanwhile is waited for, as long as the
        client's time limit.

        poll: seconds between two looks. timeout: seconds for all of it, None for as long as it takes; then `TimedOut`
        is raised, and the batch goes on. on_progress: called with the batch after each look.
        """
        return finished(batches.wait(self._core, batch, poll, timeout, on_progress))

    def results(self, batch: Batch | str, **fields: Unpack[CallFields]) -> Iterator[Result]:
        """What became of each line, in the order of the input. Raises BatchFailed, and ConfigError for a batch that has
        not ended.

        Both files are fetched to a temporary place when the first one is asked for.
        """
        with batches.Rows() as rows:
            finished(batches.fetch(self._core, batch, rows, fields))
            yield from rows

    def run(
        self,
        requests: batches.Requests,
        *,
        endpoint: batches.Endpoint = batches.CHAT,
        defaults: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        poll: float = 1.0,
        timeout: float | None = None,
        on_progress: batches.OnProgress | None = None,
        keep_files: bool = False,
    ) -> batches.Results:
        """Uploads the requests, waits for the batch, and gives what became of each, in their order.

        requests, endpoint, defaults: as in `files.upload`. The others: as in `create` and `wait`. When an exception
        leaves this, the batch is cancelled. The files are deleted at the end, unless `keep_files`.
        """
        told = batches.Told(endpoint, defaults, metadata, poll, timeout, on_progress, keep_files)
        return finished(batches.run(self._core, requests, told))


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
        own = settings(base_url, api_key, timeout, max_retries, backoff, (clock, wall_clock, random))
        self._owned = http_client is None
        self._http = http_client or httpx.Client(transport=transport, limits=POOL, trust_env=own.trust_env)
        self._core = Core(own, Blocking(self._http, sleep))
        self.files, self.batches = Files(self._core), Batches(self._core)

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
        on_progress: many.OnProgress | None = None,
        raise_errors: bool = False,
        **fields: Unpack[ChatFields],
    ) -> list[many.Outcome]:
        """Many chats, so many at a time; answers and errors in the order of the requests.

        requests: messages, or dicts of `messages` and fields, which go before the fields that all have in common.
        on_progress: called in this thread after each. raise_errors: the first error is raised, and no further request
        begun.
        """
        many.checked(concurrency, fields)
        tally = many.Tally(len(requests), on_progress, raise_errors=raise_errors)

        def ask(one: Messages | ChatRequest) -> Answer:
            return finished(self._core.run(many.request(one, fields)))

        return many.in_threads(requests, ask, concurrency, tally)

    # Routing, feedback, state

    route = _blocking(calls.route)
    feedback = _blocking(calls.feedback)
    explain = _blocking(calls.explain)
    routes = _blocking(calls.routes)
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
        return f"{type(self).__name__}(base_url={self._core.settings.root!r})"
