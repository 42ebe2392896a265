"""The worker's end: it listens, and answers calls of whoever knows its token."""

import asyncio
import contextlib
import logging
import os
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from workers.base import ChatCall, Delta, Event, Failure, WorkerStats
from workers.channel.frames import (
    MOST_BYTES,
    Address,
    Ask,
    Cancel,
    Frames,
    Hello,
    Leaving,
    Place,
    Stats,
    Submit,
    add,
    events_of,
    to_worker,
)
from workers.tracing import names
from workers.tracing.calls import end_call
from workers.tracing.settings import told_tracing
from workers.tracing.spans import OFF, Tracing

HELLO_S = 5.0
"""Seconds within which a connection says who it is."""
LEAVE_S = 0.5
"""A worker that is to end listens for so long at least: gateways may have sent it calls before they learned of it."""
MOST_PAIRS = 4096
"""Pairs of experts that are counted. Where there are more, all counts are halved, and those that come to nothing go."""

logger = logging.getLogger(__name__)


class Served(Protocol):
    """What answers the calls."""

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]: ...

    async def stats(self) -> Mapping[str, WorkerStats]: ...

    def live(self, experts: Sequence[str]) -> None:
        """These live on the worker from now on, see `frames.Place`."""
        ...


class ChannelServer:
    """Listens for gateways. name: the worker's, for logs. placed, asked, pairs: see `frames.Stats`."""

    def __init__(self, served: Served, name: str) -> None:
        self.served, self.name, self.token = served, name, secrets.token_urlsafe(32)
        self.placed: tuple[str, ...] = ()
        self.asked: dict[str, tuple[int, int]] = {}
        self.pairs: dict[str, dict[str, int]] = {}
        self.peers: set[_Peer] = set()
        self.tracing: Tracing = OFF
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._under_way, self._call_seconds, self._tokens = 0, 0.0, 0
        self._changed_at = 0.0  # of calls under way

    async def start(self, host: str, tls: ssl.SSLContext | None = None) -> Address:
        """Listens on a free port of `host` and nowhere else. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), host, 0, ssl=tls)
        return Address(self.name, host, self._server.sockets[0].getsockname()[1], self.token)

    def count(self, expert: str, calls: int, tokens: int) -> None:
        """That so much more was asked of an expert."""
        before = self.asked.get(expert, (0, 0))
        self.asked[expert] = before[0] + calls, before[1] + tokens

    def count_beside(self, call: ChatCall) -> None:
        """That a draft came while those of others were under way."""
        for other in call.beside:
            counts = self.pairs.setdefault(call.expert, {})
            counts[other] = counts.get(other, 0) + 1
        if call.beside and sum(map(len, self.pairs.values())) > MOST_PAIRS:
            halved = {one: {o: n // 2 for o, n in counts.items() if n > 1} for one, counts in self.pairs.items()}
            self.pairs = {one: counts for one, counts in halved.items() if counts}

    def waits(self) -> dict[str, float]:
        """Expert -> seconds that the oldest of its calls has waited for its first event, for those that have any."""
        now, found = asyncio.get_running_loop().time(), dict[str, float]()
        for peer in self.peers:
            for run in peer.running.values():
                if run.waits_since is not None:
                    found[run.expert] = max(found.get(run.expert, 0.0), now - run.waits_since)
        return found

    def worked(self) -> tuple[float, int]:
        """Seconds of all calls together that were under way, and tokens that were made, since the worker's start."""
        self.change(calls=0)
        return self._call_seconds, self._tokens

    def change(self, calls: int = 0, tokens: int = 0) -> None:
        """So many calls more are under way, and so many tokens more were made."""
        now = asyncio.get_running_loop().time()
        self._call_seconds += self._under_way * (now - self._changed_at)
        self._under_way, self._tokens, self._changed_at = self._under_way + calls, self._tokens + tokens, now

    def _tasks(self) -> "list[asyncio.Task[None]]":
        return [run.task for peer in self.peers for run in peer.running.values() if run.task is not None]

    async def close(self, grace: float) -> None:
        """Takes no further calls, gives those under way so many seconds, and breaks off the others."""
        if self._server is not None:
            self._server.close()
        for peer in self.peers:
            peer.send(Leaving())
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        if self.peers:
            await asyncio.sleep(min(LEAVE_S, grace))
        while (tasks := self._tasks()) and (left := until - loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left)
        for peer in tuple(self.peers):
            peer.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._opening is not None:
            await self._opening
        await asyncio.to_thread(self.tracing.close)

    def trace(self, url: str) -> None:
        """Traces go there, soon, unless they go somewhere already."""
        if url and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_traces(url))

    async def _open_traces(self, url: str) -> None:
        """In a thread: what it imports would hold up the engine for half a second."""
        try:
            self.tracing = await asyncio.to_thread(told_tracing, url, "coe-worker", os.environ)
        except Exception:  # a worker answers without traces
            logger.exception("%s: no traces", self.name)


class _Run:
    """A call under way. waiting: what it has said and is still to be sent; waits_since: when it came, until it has said
    anything."""

    def __init__(self, peer: "_Peer", number: int, call: ChatCall) -> None:
        self._peer, self._number, self._call = peer, number, call
        self._waiting: list[Event] = []
        self.expert = call.expert
        self.waits_since: float | None = asyncio.get_running_loop().time()
        self.task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        clock = asyncio.get_running_loop().time
        every, sent = self._call.every, clock()
        ended, usage = False, None
        server, made = self._peer.server, 0
        end: Event | None = None
        began = time.time_ns()
        server.count(self._call.expert, 1, 0)
        server.count_beside(self._call)
        server.change(calls=+1)
        try:
            async with contextlib.aclosing(self._peer.server.served.generate(self._call)) as events:
                async for event in events:
                    self.waits_since = None
                    add(self._waiting, event)
                    usage = usage if isinstance(event, Failure) else event.usage or usage
                    if usage is not None and usage.completion_tokens > made:
                        server.change(tokens=usage.completion_tokens - made)
                        made = usage.completion_tokens
                    ended = not isinstance(event, Delta)
                    end = event
                    if ended or (not self._peer.paused and clock() - sent >= every):
                        sent = clock()
                        self.tell()
        except Exception as error:
            logger.exception("a call of %s failed", self._call.expert)
            if not ended:
                end = self._fail(f"the worker of {self._call.expert} raised {type(error).__name__}")
        else:
            if not ended:
                end = self._fail(f"the worker of {self._call.expert} ended without an end")
        finally:
            self._peer.running.pop(self._number, None)
            server.count(self._call.expert, 0, usage.completion_tokens if usage is not None else 0)
            server.change(calls=-1)
            if self._call.trace:  # what is told leaves first
                asyncio.get_running_loop().call_soon(self._trace, began, time.time_ns(), end)

    def _trace(self, began: int, ended: int, end: Event | None) -> None:
        """began, ended: nanoseconds of Unix time. end: the call's last event."""
        call = self._call
        name = names.engine(call.expert)
        span = self._peer.server.tracing.follow(call.trace, name, {names.EXPERT: call.expert}, began)
        end_call(span, end, ended)

    def tell(self) -> None:
        """Sends what waits."""
        if self._waiting:
            frame = events_of(self._number, self._waiting)
            self._waiting.clear()
            self._peer.send(frame)

    def _fail(self, why: str) -> Failure:
        failure = Failure("internal", why)
        self._waiting[:] = [failure]  # what could not be sent would fail again
        self.tell()
        return failure


class _Peer(Frames):
    """A gateway."""

    def __init__(self, server: ChannelServer) -> None:
        super().__init__()
        self.server = server
        self.running: dict[int, _Run] = {}
        self._known = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(HELLO_S, self.refuse, "silence")

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._forget_timer()
        self.server.peers.discard(self)
        for run in self.running.values():
            if run.task is not None:
                run.task.cancel()

    def resume_writing(self) -> None:
        super().resume_writing()
        for run in self.running.values():
            run.tell()

    def take(self, body: bytes) -> None:
        try:
            frame = to_worker.decode(body)
        except msgspec.DecodeError:
            self.refuse("a frame that is none")
            return
        if not self._known:
            self._meet(frame)
        elif isinstance(frame, Submit):
            if frame.number in self.running:
                self.refuse("a number twice")
                return
            run = self.running[frame.number] = _Run(self, frame.number, frame.by_own_clock(time.time()))
            run.task = asyncio.get_running_loop().create_task(run())
        elif isinstance(frame, Cancel):
            run_ = self.running.pop(frame.number, None)
            if run_ is not None and run_.task is not None:
                run_.task.cancel()
        elif isinstance(frame, Place):
            self.server.placed = frame.experts
            self.server.served.live(frame.experts)
        elif isinstance(frame, Ask):
            task = asyncio.get_running_loop().create_task(self._tell_stats(frame.number))
            task.add_done_callback(_log)

    def _meet(self, frame: object) -> None:
        if not isinstance(frame, Hello) or not frame.is_welcome(self.server.token):
            self.refuse("a stranger")
            return
        self._known, self.bound = True, MOST_BYTES
        self.server.trace(frame.traces)
        self._forget_timer()
        self.server.peers.add(self)

    async def _tell_stats(self, number: int) -> None:
        server = self.server
        told, lost = await server.served.stats(), server.tracing.lost
        stats = {family: replace(own, spans_lost=lost) for family, own in told.items()}
        self.send(Stats(number, stats, server.placed, server.asked, server.pairs))

    def refuse(self, why: str) -> None:
        logger.warning("%s: a connection is refused for %s", self.server.name, why)
        super().refuse(why)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _log(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.error("no stats: %s", type(error).__name__)
