"""From a request's pipeline events to its HTTP answer, whole or as a stream, whatever the path writes."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import ApiError, Told, from_exception, from_failure
from orchestrator.events import Answered, Ask, PipelineEvent, Routed
from orchestrator.http.chat import KEEP_ALIVE, STREAM_HEADERS, route_headers
from orchestrator.http.said import Said
from orchestrator.http.streams import EventStream, Timed, until_gone
from orchestrator.pipeline import Pipeline
from workers.base import Delta, Failure
from workers.tracing.spans import AnySpan

HEAD_WAIT_S = 0.25
"""How long a stream's headers wait for the route and the first event: what fails at once gets its proper status."""


class Writer(Protocol):
    """How one path writes one answer."""

    def whole(self, routed: Routed, said: Said, answered: Answered) -> dict[str, Any]: ...

    def write(self, event: PipelineEvent) -> bytes:
        """The bytes of a stream for an event; the first one is a Routed, the last one an Answered or a Failure."""
        ...

    def error(self, error: ApiError) -> bytes:
        """The end of a stream that has begun."""
        ...


class Answers:
    """keep_alive_s: longest silence on a stream. told: counts and logs an error before it is answered."""

    def __init__(self, pipeline: Pipeline, keep_alive_s: float, told: Told) -> None:
        self._pipeline, self._keep_alive_s, self._told = pipeline, keep_alive_s, told

    async def respond(self, request: Request, ask: Ask, writer: Writer) -> Response:
        """Raises what the pipeline raises, ApiError for a failure, ClientGone."""
        if ask.stream:
            return await self._stream(ask, writer)
        return await until_gone(request.receive, self._whole(ask, writer))

    async def _whole(self, ask: Ask, writer: Writer) -> Response:
        content, headers = await whole(self._pipeline, ask, writer)
        return Response(content, headers=headers, media_type="application/json")

    async def _stream(self, ask: Ask, writer: Writer) -> Response:
        """Waits shortly for the beginning, which decides on status and headers, then streams."""
        events = Timed(self._pipeline.run(ask))
        began: list[PipelineEvent] = []
        try:
            deadline = time.monotonic() + HEAD_WAIT_S
            while len(began) < 2 and (event := await events.get(deadline - time.monotonic())):
                if isinstance(event, Failure):
                    raise from_failure(event)
                began.append(event)
        except BaseException:
            await events.close()
            raise
        routed = began[0] if began and isinstance(began[0], Routed) else None
        headers = {**STREAM_HEADERS, **route_headers(ask.request_id, routed)}
        return EventStream(self._frames(events, began, writer, ask.span), headers)

    async def _frames(
        self, events: Timed[PipelineEvent], began: list[PipelineEvent], writer: Writer, span: AnySpan
    ) -> AsyncGenerator[bytes, None]:
        try:
            for event in began:
                yield writer.write(event)
            last = began[-1] if began else None
            while not isinstance(last, Answered | Failure):
                last = await events.get(self._keep_alive_s)
                if isinstance(last, Failure):
                    raise from_failure(last)
                yield writer.write(last) if last else KEEP_ALIVE
        except Exception as error:
            told = self._told(from_exception(error), error)
            await events.close()  # what is kept of it then knows less than this
            span.fail(told.cause)
            yield writer.error(told)
        finally:
            await events.close()


async def whole(pipeline: Pipeline, ask: Ask, writer: Writer) -> tuple[bytes, dict[str, str]]:
    """An answer as JSON, and its headers. Raises what the pipeline raises, and ApiError for a failure."""
    said, routed = Said(ask.n), None
    async with aclosing(pipeline.run(ask)) as events:
        async for event in events:
            if isinstance(event, Delta):
                said.add(event)
            elif isinstance(event, Routed):
                routed = event
            elif isinstance(event, Failure):
                raise from_failure(event)
            elif routed:
                content = orjson.dumps(writer.whole(routed, said, event))
                return content, route_headers(ask.request_id, routed, event)
    raise RuntimeError("the pipeline ended without an end")
