"""Workers with a fake engine behind real channels on loopback, for tests."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from experts.spec import ExpertSpec
from workers.base import ChatCall, Event, Sampling, WorkerStats
from workers.channel.client import Find, Links
from workers.channel.frames import Address
from workers.channel.server import ChannelServer
from workers.fake_engine import FakeEngine

HOST = "127.0.0.1"
EXPERTS = tuple(ExpertSpec(name=name, family="f", source="org/model") for name in ("a", "b"))


def call(number: int = 1, expert: str = "a", text: str = "hello there", *, every: float = 0.0) -> ChatCall:
    return ChatCall(f"r{number}", expert, ({"role": "user", "content": text},), Sampling(), every=every)


@dataclass
class Served:
    """A worker without one: an engine that is up."""

    engine: FakeEngine = field(default_factory=lambda: FakeEngine("f", EXPERTS))
    lives: tuple[str, ...] = ()

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        return self.engine.generate(call)

    async def stats(self) -> Mapping[str, WorkerStats]:
        return {"f": await self.engine.stats()}

    def live(self, experts: Sequence[str]) -> None:
        self.lives = tuple(experts)


@dataclass
class Bench:
    """Workers, and the links to those that are listed."""

    engines: list[FakeEngine]
    served: list[Served]
    servers: list[ChannelServer]
    listed: list[Address]
    find: Find
    links: Links

    async def connected(self, number: int) -> None:
        """Waits until so many links are up."""
        async with asyncio.timeout(10):
            while len(self.links.up) != number:  # a connection has no event to wait for
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def bench(workers: int = 1, experts: Sequence[ExpertSpec] = EXPERTS) -> AsyncIterator[Bench]:
    served = [Served(FakeEngine("f", experts)) for _ in range(workers)]
    servers = [ChannelServer(own, f"w{n}") for n, own in enumerate(served)]
    for own in served:
        await own.engine.start()
    listed = [await server.start(HOST) for server in servers]

    async def find() -> list[Address]:
        return list(listed)

    async with Links(find) as links:
        made = Bench([own.engine for own in served], served, servers, listed, find, links)
        await made.connected(workers)
        yield made
    for server in servers:
        await server.close(0)
