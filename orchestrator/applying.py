"""A running gateway that takes another configuration: everything new is made beside what runs, then one assignment
sends later requests there. Those under way end where they began.

    read and check the file -> open its routers -> workers serve the old experts and the new ones
    -> switch -> when the last request of the old configuration has ended: workers serve the new experts alone
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

import structlog
from starlette.types import Receive, Scope, Send

from experts.registry import Registry
from orchestrator.calls import Workers
from orchestrator.changes import Difference, applied, difference, united
from orchestrator.config.model import Config
from orchestrator.errors import ApiError
from orchestrator.placing import planners
from orchestrator.plans import Plan, families_of, version
from orchestrator.preparing import Deciders
from orchestrator.settings import ConfigError
from orchestrator.site import Shared, Site, SwitchedWorkers, make_site
from workers.base import WorkerStats

ADOPT_S = 30.0
"""How long workers that run are waited for to take their experts, before requests for these are let in."""
LOOK_S = 0.1

log = structlog.stdlib.get_logger(__name__)


class Deployed(Protocol):
    """The workers' side, see `orchestrator.cluster.Fleet`. owner: None if somebody else deploys them."""

    owner: str | None

    def workers(self, found: Mapping[str, Plan], registry: Registry, traces: str = "") -> SwitchedWorkers: ...

    def check_room(self, found: Mapping[str, Plan]) -> None: ...

    def deploy(self, found: Mapping[str, Plan], drain_s: float) -> None: ...


class Source(Protocol):
    """Where configurations come from. All of it may block, and read the disk."""

    def read(self) -> Config:
        """The file as it is now. Raises ConfigError."""
        ...

    def plans(self, config: Config) -> Mapping[str, Plan]: ...

    def deciders(self, config: Config, say: Callable[[str], None], *, dry_run: bool) -> Deciders:
        """dry_run: nothing is made that is missing. Raises CannotStart, and what else is told to who starts a
        service."""
        ...

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What is raised where a configuration cannot be used, with a message for people."""
        ...


class Gateway:
    """The ASGI application of the process: that of the configuration of now."""

    def __init__(self, shared: Shared, fleet: Deployed, source: Source | None) -> None:
        self._shared, self._fleet, self._source = shared, fleet, source
        self._lock = asyncio.Lock()
        self._ending: dict[Site, asyncio.Task[None]] = {}
        self._site: Site | None = None

    @property
    def site(self) -> Site:
        assert self._site is not None
        return self._site

    async def start(self, config: Config, found: Mapping[str, Plan], deciders: Deciders) -> None:
        """With the first configuration, whose workers are deployed."""
        workers = self._fleet.workers(found, config.registry(), self._shared.tracing.url)
        change = None if self._source is None else self.apply
        self._site = make_site(self._shared, config, found, deciders, workers, change)
        await workers.open()
        await self._place(self._site, found)
        self._site.run_batches()

    def end_streams(self) -> None:
        """Those that would go on for ever: what is under way besides has its time to end."""
        for site in (self.site, *self._ending):
            site.feed.close("the service stops")

    async def stop(self) -> None:
        """Gives what is still to be written some seconds."""
        sites, tasks = [self.site, *self._ending], list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.site.stop_batches()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                for site in sites:
                    await site.pipeline.drain()
        for site in sites:
            await site.workers.give_way(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        site = self.site
        site.inside += 1
        try:
            await site.app(scope, receive, send)
        finally:
            site.inside -= 1
            if not site.inside:
                site.idle.set()

    # Another configuration

    async def apply(self, dry_run: bool = False) -> tuple[Difference, tuple[str, ...]]:
        """What changes, and notes for people. Raises ApiError; nothing has changed then."""
        assert self._source is not None
        async with self._lock:
            old, notes = self.site, list[str]()
            try:
                wanted = await asyncio.to_thread(self._source.read)
                config = applied(old.config, wanted)
                found = await asyncio.to_thread(self._source.plans, config)
                told = await asyncio.to_thread(difference, old.config, wanted, old.found, found)
                await asyncio.to_thread(self._fleet.check_room, found)
                deciders = await asyncio.to_thread(self._source.deciders, config, notes.append, dry_run=dry_run)
            except ConfigError as error:
                raise ApiError("configuration", "\n".join(error.problems)) from None
            except self._source.refusals as error:
                raise ApiError("configuration", str(error)) from None
            if dry_run:
                return told, tuple(notes)
            log.info("another configuration", added=told.added, removed=told.removed, replaced=told.replaced)
            workers = old.workers.followed_by(found, config.registry())
            new = make_site(self._shared, config, found, deciders, workers, self.apply, old)
            await workers.open()
            try:
                notes += await self._let_workers_follow(new, old)
            except BaseException:
                await workers.give_way(old.workers)
                raise
            await self._switch(new, old)
            return told, tuple(notes)

    async def _let_workers_follow(self, new: Site, old: Site) -> list[str]:
        """Lets them serve the experts of both configurations; what is to be said of it."""
        if self._fleet.owner is None:
            return []
        both = united(new.found, [old.found, *(site.found for site in self._ending)])
        await asyncio.to_thread(self._fleet.deploy, both, new.config.limits.drain_s)
        notes = await self._adopted(new.workers, old.found, both)
        await self._place(new, both)
        return notes

    async def _place(self, site: Site, found: Mapping[str, Plan]) -> None:
        """Lets the experts of these applications live where the load wants them, if their workers are this gateway's
        own."""
        if self._fleet.owner is not None:
            site.workers.place(await asyncio.to_thread(planners, found, site.config))

    async def _switch(self, new: Site, old: Site) -> None:
        limits = new.config.limits
        self._shared.limiter.change(limits.per_key.model_dump(), limits.without_redis.model_dump())
        self._shared.serving.experts = len(new.registry)
        logging.getLogger().setLevel(new.config.log_level.upper())
        await old.stop_batches()
        self._site = new
        old.feed.close("the service has another configuration; come back")
        new.run_batches()
        self._ending[old] = asyncio.get_running_loop().create_task(self._end(old))

    async def _adopted(self, workers: Workers, before: Mapping[str, Plan], both: Mapping[str, Plan]) -> list[str]:
        """Waits until workers that go on serve what they are to; of which that cannot be said."""
        wanted = {
            own.family: own.roster.version
            for app, plan in both.items()
            if app in before and version(plan) == version(before[app])
            for own in families_of(plan)
        }
        until = time.monotonic() + ADOPT_S
        while True:
            stats = await workers.stats()
            late = [family for family, roster in wanted.items() if not _has(stats.get(family), roster)]
            if not late or time.monotonic() > until:
                return [f"the workers of {family} do not serve their new experts yet" for family in late]
            await asyncio.sleep(LOOK_S)

    async def _end(self, old: Site) -> None:
        """Once the old configuration has no request any more: what is left of it goes."""
        while old.inside:
            old.idle.clear()
            await old.idle.wait()
        await old.pipeline.drain()
        async with self._lock:
            now, others = self.site, [site for site in self._ending if site is not old]
            await old.workers.give_way(now.workers)
            if self._fleet.owner is not None:
                rest = united(now.found, [site.found for site in others])
                try:
                    await asyncio.to_thread(self._fleet.deploy, rest, now.config.limits.drain_s)
                    await self._place(now, rest)
                except Exception:
                    log.exception("experts that are gone keep their memory until the next change")
            del self._ending[old]


def _has(stats: WorkerStats | str | None, roster: str) -> bool:
    return isinstance(stats, WorkerStats) and stats.roster == roster
