"""The way of a request, the same for both clients: tries, answers, streams. `io.py` has the ways to the network."""

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, cast

import httpx

from coe_client.calls import Call, StreamCall
from coe_client.errors import StreamBroken
from coe_client.forms import Load, loaded
from coe_client.io import Io
from coe_client.reading import Reading, Textual
from coe_client.retries import Done, Failed, Send, Sleep, tries
from coe_client.settings import Settings, request_id_of, timeouts

T = TypeVar("T")
E = TypeVar("E", bound=Textual)


class Source(Generic[E]):
    """An open stream: pieces that wait to be read, and the connection that more come from."""

    def __init__(self, io: Io, call: StreamCall[E], response: httpx.Response, until: float, settings: Settings) -> None:
        self.reading = Reading(call.pieces(), request_id_of(response.headers))
        self.ready: deque[E] = deque()
        self._io, self._response, self._following = io, response, io.body(response)
        self._until, self._now = until, settings.now

    async def pull(self) -> None:
        """Reads until a piece is ready, or the stream is complete. Raises StreamBroken."""
        while not self.ready and not self.reading.ended:
            if self.reading.problem:
                raise self.reading.problem
            if self._now() > self._until:
                raise self.reading.lost("the time limit is over")
            try:
                data = await self._following()
            except httpx.HTTPError as error:
                raise self.reading.lost(f"the connection was lost: {str(error) or type(error).__name__}") from error
            if data is None:
                raise self.reading.lost("the connection ended before the stream was complete")
            self.ready.extend(self.reading.feed(data))

    async def close(self) -> None:
        await self._io.close(self._response)


class Core:
    """Sends requests as the settings say."""

    def __init__(self, settings: Settings, io: Io) -> None:
        self.settings, self.io = settings, io

    async def run(self, call: Call[T]) -> T:
        with loaded(call) as load:
            return await self._try(call, lambda step: self._send(call, load, step))

    async def open(self, call: StreamCall[E]) -> Source[E]:
        """The stream with its first piece read."""
        with loaded(call.call) as load:
            return await self._try(call.call, lambda step: self._open_stream(call, load, step))

    async def _try(self, call: Call[Any], send: Callable[[Send], Awaitable[Done[T] | Failed]]) -> T:
        own = self.settings
        steps: Generator[Send | Sleep, Done[T] | Failed | None, T] = tries(
            max_retries=own.max_retries if call.max_retries is None else call.max_retries,
            timeout=own.limit(call),
            backoff=own.backoff,
            now=own.now,
            uniform=own.uniform,
        )
        step = next(steps)
        while True:
            outcome: Done[T] | Failed | None = None
            if isinstance(step, Sleep):
                await self.io.sleep(step.seconds)
            else:
                outcome = await send(step)
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return cast("T", end.value)

    async def _send(self, call: Call[T], load: Load, step: Send) -> Done[T] | Failed:
        until = self.settings.now() + step.left
        try:
            response = await self._open(call, load, step, "application/json" if call.sink is None else "*/*")
            try:
                is_sunk = call.sink is not None and response.is_success
                body = await (self._sink(call, response, until) if is_sunk else self._body(response, until))
            finally:
                await self.io.close(response)
        except httpx.HTTPError as error:
            return self.settings.failure(error)
        return self.settings.outcome(call, response.status_code, response.headers, body)

    async def _open_stream(self, call: StreamCall[E], load: Load, step: Send) -> Done[Source[E]] | Failed:
        """The stream with its first piece read: until then another try is unseen by the caller."""
        until = self.settings.now() + step.left
        try:
            response = await self._open(call.call, load, step, "text/event-stream")
        except httpx.HTTPError as error:
            return self.settings.failure(error)
        outcome: Done[Source[E]] | Failed | None = None
        try:
            outcome = await self._began(call, response, until)
        except httpx.HTTPError as error:
            outcome = self.settings.failure(error)
        finally:
            if not isinstance(outcome, Done):
                await self.io.close(response)
        return outcome

    async def _began(self, call: StreamCall[E], response: httpx.Response, until: float) -> Done[Source[E]] | Failed:
        if not response.is_success:
            return self.settings.refusal(response.status_code, response.headers, await self._body(response, until))
        if failed := self.settings.no_stream(response.headers):
            return failed
        source = Source(self.io, call, response, until, self.settings)
        try:
            await source.pull()
        except StreamBroken as error:
            return Failed(error, source.reading.again)
        return Done(source)

    async def _open(self, call: Call[Any], load: Load, step: Send, accept: str) -> httpx.Response:
        request = self.io.build(
            call.method,
            self.settings.root + call.path,
            headers=self.settings.headers(call, accept),
            timeout=timeouts(step.left),
            **load(self.settings.now() + step.left, self.settings.now),
        )
        return await self.io.send(request)

    async def _body(self, response: httpx.Response, until: float) -> bytes:
        parts: list[bytes] = []
        await self._read(response, until, parts.append)
        return b"".join(parts)

    async def _sink(self, call: Call[Any], response: httpx.Response, until: float) -> bytes:
        """Into the file of the call, from its beginning: an earlier try may have come half the way."""
        assert call.sink is not None
        call.sink.seek(0)
        call.sink.truncate()
        await self._read(response, until, call.sink.write)
        return b""

    async def _read(self, response: httpx.Response, until: float, take: Callable[[bytes], object]) -> None:
        following = self.io.body(response)
        while (part := await following()) is not None:
            take(part)
            if self.settings.now() > until:  # a body that trickles outlives every limit between two of its bytes
                raise httpx.ReadTimeout("the answer took too long")
