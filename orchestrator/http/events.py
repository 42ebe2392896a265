"""GET /v1/events: what happens in the engines and with batches, as server-sent events that go on until somebody ends
them."""

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.batch.jobs import Job, Jobs
from orchestrator.feed import Feed, FeedEvent, Reader
from orchestrator.feed import Jobs as ToldJobs
from orchestrator.http.chat import KEEP_ALIVE, STREAM_HEADERS
from orchestrator.http.streams import EventStream
from orchestrator.keys import InvalidKey, KeyInfo, Keys
from orchestrator.store import StoreUnavailable

CHECK_S = 10.0
"""How often it is looked whether the key still works: a stream may outlive it."""
MOST_SILENT_S = 15.0
"""Longest silence: who looks on takes a stream for lost that says nothing for much longer."""
RETRY_MS = 1000
NEWEST = 20
"""Batches that are told of, the newest."""


class Events:
    """The method of the path. keep_alive_s: longest silence on a stream."""

    def __init__(self, feed: Feed, keys: Keys, keep_alive_s: float) -> None:
        self._feed, self._keys = feed, keys
        self._keep_alive_s = min(keep_alive_s, MOST_SILENT_S)

    async def stream(self, request: Request) -> Response:
        """GET /v1/events"""
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS)  # without a place, which only an end would free
        caller: KeyInfo = request.state.caller
        key = request.headers["authorization"].partition(" ")[2].strip()
        reader = self._feed.open(caller.grant, caller.lineage, request.headers.get("last-event-id"))
        return _Watched(self._frames(reader, key), partial(self._feed.leave, reader))

    async def _frames(self, reader: Reader, key: str) -> AsyncGenerator[bytes, None]:
        checked = spoke = time.monotonic()
        yield b"retry: %d\n\n" % RETRY_MS + self._written(
            [FeedEvent("hello", {"at": time.time(), "epoch": self._feed.history.epoch}, reader.after)]
        )
        while True:
            told = await reader.take(min(CHECK_S, max(0.0, spoke + self._keep_alive_s - time.monotonic())))
            now = time.monotonic()
            if told:
                yield self._written(told)
                spoke = now
            elif now - spoke >= self._keep_alive_s:
                yield KEEP_ALIVE
                spoke = now
            if now - checked >= CHECK_S:
                checked = now
                await self._check(reader, key)
            if reader.ended is not None:
                yield self._written([FeedEvent("end", {"why": reader.ended})])
                return

    async def _check(self, reader: Reader, key: str) -> None:
        """The key's scopes as they are now; the end where it works no more. Without Redis it is as it was."""
        try:
            reader.grant = (await self._keys.verify(key)).grant
        except InvalidKey as error:
            reader.end(str(error))
        except StoreUnavailable:
            pass

    def _written(self, told: Iterable[FeedEvent]) -> bytes:
        parts = []
        for event in told:
            number = b"" if event.number is None else f"id: {self._feed.history.id(event.number)}\n".encode()
            parts.append(b"%sevent: %s\ndata: %s\n\n" % (number, event.kind.encode(), orjson.dumps(event.data)))
        return b"".join(parts)


class _Watched(EventStream):
    """ended: called in any case, also where the client has left before the first frame."""

    def __init__(self, frames: AsyncGenerator[bytes, None], ended: Callable[[], None]) -> None:
        super().__init__(frames, STREAM_HEADERS)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def told_jobs(jobs: Jobs) -> ToldJobs:
    """For `Feed`: how far the newest batches of a key are."""

    async def newest(owner: str) -> list[dict[str, Any]]:
        return [job_field(job) for job in await jobs.newest(owner, NEWEST)]

    return newest


def job_field(job: Job) -> dict[str, Any]:
    """What of a batch changes while it runs; /v1/batches/{id} has the rest."""
    return {
        "id": job.made.id,
        "endpoint": job.made.endpoint,
        "status": job.status,
        "created_at": job.made.created_ms // 1000,
        "request_counts": {"total": job.total, "completed": job.completed, "failed": job.failed},
        "steps": {"total": sum(group.steps for group in job.groups), "done": sum(job.done)},
    }
