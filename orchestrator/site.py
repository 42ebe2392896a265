"""The HTTP side of one configuration: what a gateway puts in the place of another one as a whole.

`Shared`   what every configuration of the process has: connections, counts, places to run in
`Site`     what is made of one configuration
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import structlog
from starlette.applications import Starlette

from experts.registry import Registry
from orchestrator.access.breaker import Rules as BreakerRules
from orchestrator.access.limiter import Limiter
from orchestrator.aggregation import aggregators, ensembles, told_settings
from orchestrator.batch.replays import Replays
from orchestrator.batch.service import Batches, Engines, batches_of, open_storage
from orchestrator.batch.storage import Storage
from orchestrator.calls import Workers
from orchestrator.config.model import Config
from orchestrator.feed import Feed, History
from orchestrator.http.api import create_app
from orchestrator.http.apply import Change
from orchestrator.http.events import told_jobs
from orchestrator.http.guards import Bounds, Cors, allowed_origins
from orchestrator.http.health import Serving
from orchestrator.http.once import Rules
from orchestrator.http.wire import Limits
from orchestrator.keys import Keys
from orchestrator.metrics import Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.placement.planner import Planner
from orchestrator.plans import Plan
from orchestrator.preparing import Deciders
from orchestrator.records import Kept
from orchestrator.routers_shown import shown_router
from orchestrator.routing import Tenant
from orchestrator.store import Store
from orchestrator.tenants import going_on, tenants
from workers.tracing.settings import open_tracing
from workers.tracing.spans import OFF, Tracing

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What configurations that follow each other in a process have in common. storage: of batches, None = there are
    none. swaps: those of late, for who looks on."""

    store: Store
    metrics: Metrics
    keys: Keys
    limiter: Limiter
    bounds: Bounds
    serving: Serving
    storage: Storage | None
    tracing: Tracing = OFF
    swaps: History = field(default_factory=History)

    @classmethod
    def of(cls, config: Config, home: Path, redis_url: str) -> "Shared":
        store, metrics, limits = Store(redis_url), Metrics(), config.limits
        tracing = open_tracing(config.traces.settings, "coe-gateway", os.environ)
        metrics.spans.count = lambda: tracing.lost
        return cls(
            store=store,
            metrics=metrics,
            keys=Keys(store),
            limiter=Limiter(store, metrics, limits.per_key.model_dump(), limits.without_redis.model_dump()),
            bounds=Bounds(connections=limits.connections, body_s=limits.body_s),
            serving=Serving(len(config.registry()), limits.ready_s, time.monotonic()),
            storage=open_storage(config.batch.files_url, home) if config.batch.enabled else None,
            tracing=tracing,
        )


class SwitchedWorkers(Workers, Protocol):
    """Workers in whose place others can be, see `orchestrator.cluster.ServeWorkers`."""

    def followed_by(self, found: Mapping[str, Plan], registry: Registry) -> Self:
        """Those of another configuration, with the connections that they share."""
        ...

    async def open(self) -> None:
        """Connects those that are not, and keeps them so."""
        ...

    def place(self, planned: Mapping[str, Planner]) -> None:
        """Application -> who decides from now on where its experts live; the others' stay where they do."""
        ...

    async def give_way(self, to: Self | None) -> None:
        """Ends the connections that `to` has not."""
        ...


@dataclass(slots=True, eq=False)
class Site:
    """found: the plans of its workers. inside: requests that its application has. tenants: by API key, None = those
    that have nothing of their own. feed: what those see who look on."""

    config: Config
    registry: Registry
    found: Mapping[str, Plan]
    workers: SwitchedWorkers
    pipeline: Pipeline
    app: Starlette
    batches: Batches | None
    tenants: Mapping[str | None, Tenant]
    feed: Feed
    inside: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    runner: asyncio.Task[None] | None = None

    def run_batches(self) -> None:
        """Until `stop_batches`: what is under way then is given back, and what is done is kept."""
        if self.batches is not None and self.config.batch.run:
            self.runner = asyncio.get_running_loop().create_task(self.batches.runner.run())

    async def stop_batches(self) -> None:
        if self.runner is not None:
            self.runner.cancel()
            [ended] = await asyncio.gather(self.runner, return_exceptions=True)
            if ended is not None and not isinstance(ended, asyncio.CancelledError):
                log.error("the runner of batches ended", why=repr(ended))
            self.runner = None


def make_site(
    shared: Shared,
    config: Config,
    found: Mapping[str, Plan],
    deciders: Deciders,
    workers: SwitchedWorkers,
    change: Change | None = None,
    former: Site | None = None,
) -> Site:
    """former: in whose place it is to be; what it counts and remembers goes on."""
    registry, replays = config.registry(), Replays(workers)
    limits = Limits(
        body_bytes=config.limits.body_bytes,
        messages=config.limits.messages,
        max_tokens=config.limits.max_tokens,
        timeout_s=config.limits.timeout_s,
        keep_alive_s=config.limits.keep_alive_s,
    )
    default, others = tenants(config, deciders.routers, shared.store)
    remembered: Mapping[str | None, Tenant] = {} if former is None else former.tenants
    default = going_on(default, remembered.get(None))
    others = {name: going_on(tenant, remembered.get(name)) for name, tenant in others.items()}
    pipeline = Pipeline(
        default=default,
        others=others,
        workers=replays,
        registry=registry,
        aggregators=aggregators(config, deciders.measured),
        ensembles=ensembles(config, deciders.measured),
        store=shared.store,
        metrics=shared.metrics,
        limiter=shared.limiter,
        concurrent=config.limits.concurrent_requests,
        breaker=BreakerRules(**config.limits.breaker.model_dump()),
        waiting=config.limits.waiting_requests,
        queue_s=config.limits.queue_s,
        batches={
            family: config.family(family).max_num_seqs
            for family in registry.families()
            if config.engine(family) == "vllm"
        },
        former=None if former is None else former.pipeline,
        records=Kept(config.records.keep, config.records.ttl_s, config.records.content),
    )
    batches = None
    if shared.storage is not None:
        batches = batches_of(
            config.batch,
            Engines.of(config),
            registry,
            shared.storage,
            shared.store,
            pipeline,
            replays,
            limits,
            deciders.encoder,
            shared.metrics,
            former=former.batches.places if former is not None and former.batches is not None else {},
        )
    feed = Feed(pipeline.stats, told_jobs(batches.jobs) if batches else None, shared.swaps)
    app = create_app(
        pipeline,
        registry,
        shared.keys,
        limits,
        shared.metrics,
        deciders.encoder,
        settings=told_settings(config, deciders.measured),
        once=_once(config),
        batches=batches,
        bounds=shared.bounds,
        cors=Cors(allowed_origins(config.server.cors_origins), config.server.cors_credentials),
        serving=shared.serving,
        change=change,
        tracing=shared.tracing,
        feed=feed,
        routers={name: shown_router(router, deciders.folders.get(name)) for name, router in deciders.routers.items()},
        console=config.server.console,
    )
    every: dict[str | None, Tenant] = {None: default}
    every.update(others)
    return Site(config, registry, found, workers, pipeline, app, batches, every, feed)


def _once(config: Config) -> Rules:
    kept = config.limits.idempotency
    return Rules(
        enabled=kept.enabled,
        ttl_s=kept.ttl_s,
        max_bytes=kept.max_bytes,
        closed=kept.without_redis == "closed",
        wait_s=config.limits.timeout_s,
        body_bytes=config.limits.body_bytes,
        linger_s=kept.linger_s,
    )
