"""The gateway's end: connections to the workers of a family, or of a device, and the choice among them."""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import msgspec

from workers.base import ChatCall, Delta, Event, Failure, WorkerStats
from workers.channel.choice import Candidate, choose
from workers.channel.frames import (
    MOST_BYTES,
    Address,
    Ask,
    Cancel,
    Events,
    Frames,
    Hello,
    Place,
    Stats,
    Submit,
    add,
    to_gateway,
)
from workers.channel.together import Totals

LOOK_S = 1.0
"""How often it is looked for workers that came or went."""
CONNECT_S = 5.0
TOLD_S = 2.0
"""A worker that has not been asked how it is for so long is asked: what it tells decides who gets a call, and is its
sign of life."""
STATS_S = 3.0
"""A worker that has not said how it is for so long after it was asked is left out."""
SILENT_S = 5.0
"""A worker that has said nothing for so long, though it was asked, comes after all others, as one in trouble does."""
LOST_S = 30.0
"""A connection is lost that has said nothing for so long: the machine at its other end is gone, or cut off."""
TROUBLED_S = 5.0
"""For so long a worker whose engine was not up comes after all others."""

Find = Callable[[], Awaitable[Sequence[Address]]]
Learn = Callable[[Address, Mapping[str, WorkerStats]], None]

logger = logging.getLogger(__name__)


class NoStats(RuntimeError):
    """No worker tells how it is."""


class _Stream:
    """The events of one call, as they come."""

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, events: Sequence[Event]) -> None:
        for event in events:
            add(self._waiting, event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Event]:
        """What has come, at least one event; neighbouring deltas are one by then."""
        if not self._waiting:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._waiting = self._waiting, []
        return taken


class Link(Frames):
    """A connection to one worker. tiers: expert -> tier; told, placed, asked, pairs: as it told last (`frames.Stats`),
    of which told is empty before the first time. learn: is told what the worker tells, in its order."""

    def __init__(self, address: Address, traces: str = "", learn: Learn = lambda address, told: None) -> None:
        super().__init__()
        self.address, self._traces, self._learned = address, traces, learn
        self.bound = MOST_BYTES
        self.leaving = False
        self.heard = self.troubled_until = 0.0
        self.tiers: dict[str, str] = {}
        self.told: Mapping[str, WorkerStats] = {}
        self.placed: frozenset[str] = frozenset()
        self.asked: Mapping[str, tuple[int, int]] = {}
        self.pairs: Mapping[str, Mapping[str, int]] = {}
        self.experts: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._streams: dict[int, _Stream] = {}
        self._waiting: dict[int, asyncio.Future[Mapping[str, WorkerStats]]] = {}
        self._asked_at = 0.0
        self._newest = -1  # the greatest number of an answer: one that was overtaken tells what was before
        self._placed_by = -1  # the number when it was told who lives there: what was asked before may be answered so

    @property
    def is_up(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.heard = _now()
        self.send(Hello(self.address.token, traces=self._traces))
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        for stream in self._streams.values():
            stream.put([Failure("engine_died", "the worker went down")])
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NoStats("it went down"))

    def data_received(self, data: bytes) -> None:
        self.heard = _now()
        super().data_received(data)

    def take(self, body: bytes) -> None:
        try:
            frame = to_gateway.decode(body)
        except msgspec.DecodeError:
            logger.error("%r: a frame that is none", self.address)
            self.refuse("a frame that is none")
            return
        if isinstance(frame, Events):
            if stream := self._streams.get(frame.number):
                end = frame.finish or frame.failure
                stream.put((*frame.deltas, end) if end else frame.deltas)
        elif isinstance(frame, Stats):
            self._learn(frame)
        else:
            self.leaving = True

    def _learn(self, frame: Stats) -> None:
        self.told, self.asked, self.pairs = frame.stats, frame.asked, frame.pairs
        self.tiers = {expert: tier for own in frame.stats.values() for expert, tier in own.tiers.items()}
        if frame.number > self._placed_by:
            self.placed = frozenset(frame.placed)
        if frame.number > self._newest:
            self._newest = frame.number
            self._learned(self.address, frame.stats)
        if (answer := self._waiting.pop(frame.number, None)) and not answer.done():
            answer.set_result(frame.stats)

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """The call's events. Closing it cancels the call at the worker. Raises as `frames.encode`."""
        number, stream, ended = next(self._numbers), _Stream(), False
        if not self.is_up:
            yield Failure("engine_starting", f"the worker of {call.expert} is not connected")
            return
        self.send(Submit(number, call))
        self._streams[number] = stream
        self.experts[call.expert] += 1
        try:
            while not ended:
                for event in await stream.take():
                    if isinstance(event, Failure) and event.code in ("engine_died", "engine_starting"):
                        self.troubled_until = _now() + TROUBLED_S
                    ended = not isinstance(event, Delta)
                    yield event
        finally:
            self._streams.pop(number, None)
            self.experts[call.expert] -= 1
            if not ended:
                self.send(Cancel(number))

    async def stats(self) -> Mapping[str, WorkerStats]:
        """Family -> stats. Raises NoStats."""
        if not self.is_up:
            raise NoStats("it is not connected")
        number = self._ask()
        answer: asyncio.Future[Mapping[str, WorkerStats]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def _ask(self) -> int:
        number = next(self._numbers)
        self._asked_at = _now()
        self.send(Ask(number))
        return number

    def place(self, experts: Sequence[str]) -> None:
        """These live on the worker from now on, and no others; in order, see `frames.Place`. Other gateways learn it
        with its next stats."""
        self.placed, self._placed_by = frozenset(experts), next(self._numbers)
        self.send(Place(tuple(experts)))

    def candidate(self, expert: str) -> Candidate:
        now, home = _now(), expert in self.placed
        troubled = self.troubled_until > now or now - self.heard > SILENT_S
        return Candidate(len(self._streams), self.experts[expert], self.tiers, troubled, home)

    def check_life(self) -> None:
        """Asks the worker how it is, now and then; ends the connection to one that says nothing."""
        silent = _now() - self.heard
        if silent > LOST_S:
            logger.error("%r is silent for %.0f s: it is taken for lost", self.address, silent)
            self.refuse("silence")
        elif _now() - self._asked_at > TOLD_S:
            self._ask()


class Links:
    """The workers that serve the same families, and the connections to them.

    find: tells which there are. traces: see `frames.Hello`. Use as a context: while it is open, connections follow what
    `find` tells, looked at every LOOK_S, and at once when one is lost. there: so many it told of last.
    totals: family -> what its workers have counted, those that are gone too.
    """

    def __init__(self, find: Find, tls: ssl.SSLContext | None = None, traces: str = "") -> None:
        self._find, self._tls, self._traces = find, tls, traces
        self.there = 0
        self.totals: dict[str, Totals] = {}
        self._links: dict[Address, Link] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Links":
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for link in self._links.values():
            link.end()

    @property
    def up(self) -> list[Link]:
        return [link for link in self._links.values() if link.is_up]

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure: "engine_starting" where there is no worker."""
        able = [link for link in self.up if not link.leaving]
        if not able:
            yield Failure("engine_starting", f"the worker of {call.expert} is not up; try again shortly")
            return
        link = able[0] if len(able) == 1 else able[choose([own.candidate(call.expert) for own in able], call.expert)]
        async with contextlib.aclosing(link.generate(call)) as events:
            async for event in events:
                yield event

    async def stats(self) -> list[Mapping[str, WorkerStats]]:
        """Of each worker that tells, within STATS_S. Raises NoStats if none does."""
        asked = [asyncio.wait_for(link.stats(), STATS_S) for link in self.up]
        told = await asyncio.gather(*asked, return_exceptions=True)
        found = [stats for stats in told if not isinstance(stats, BaseException)]
        if not found:
            raise NoStats(f"none has told how it is within {STATS_S:g} s" if asked else "no worker is connected")
        return found

    async def _keep(self) -> None:
        while True:
            self._links = {address: link for address, link in self._links.items() if link.is_up}
            for link in self._links.values():
                link.check_life()
            try:
                await self._look()
            except Exception as error:  # those that are connected serve on
                level = logging.DEBUG if self._links else logging.WARNING
                logger.log(level, "workers cannot be looked for: %s", type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        found = {*await self._find()}
        self.there = len(found)
        for totals in self.totals.values():
            totals.forget(found | self._links.keys())
        await asyncio.gather(*map(self._connect, found - self._links.keys()))

    async def _connect(self, address: Address) -> None:
        link, loop = Link(address, self._traces, self._learn), asyncio.get_running_loop()
        host = None if self._tls is None else address.host
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(
                    lambda: link, address.host, address.port, ssl=self._tls, server_hostname=host
                )
        except (OSError, TimeoutError) as error:
            logger.warning("%r cannot be reached: %s", address, type(error).__name__)
            return
        self._links[address] = link

    def _learn(self, address: Address, told: Mapping[str, WorkerStats]) -> None:
        for family, stats in told.items():
            self.totals.setdefault(family, Totals()).learn(address, stats)


def _now() -> float:
    return asyncio.get_running_loop().time()
