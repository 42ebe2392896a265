"""The gateway of `coe serve`: the HTTP side and what runs beside it in the same process, put together by the
configuration."""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from experts.registry import Registry
from orchestrator.access.breaker import Rules as BreakerRules
from orchestrator.access.limiter import Limiter
from orchestrator.aggregation import aggregators, ensembles, told_settings
from orchestrator.batch.replays import Replays
from orchestrator.batch.service import Engines, batches_of, open_storage
from orchestrator.cluster import ServeWorkers
from orchestrator.config.model import Config
from orchestrator.http.api import create_app
from orchestrator.http.door import Door
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.guards import Bounds, Cors, allowed_origins
from orchestrator.http.once import Rules
from orchestrator.http.server import make_server
from orchestrator.http.wire import Limits
from orchestrator.keys import Keys
from orchestrator.metrics import Metrics
from orchestrator.pipeline import Pipeline
from orchestrator.preparing import Deciders
from orchestrator.reporter import Reporter
from orchestrator.store import Store
from orchestrator.tenants import tenants

ACCEPTED_A_TURN = 64
"""New connections that a turn of the event loop takes."""


async def run_gateway(
    config: Config,
    home: Path,
    deciders: Deciders,
    workers: ServeWorkers,
    redis_url: str,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    reporter: Reporter,
    started: Callable[[dict[str, str]], None],
) -> None:
    """The HTTP side, until a signal comes."""
    registry = config.registry()
    metrics = Metrics()
    store = Store(redis_url)
    replays = Replays(workers)
    limits = Limits(
        body_bytes=config.limits.body_bytes,
        messages=config.limits.messages,
        max_tokens=config.limits.max_tokens,
        timeout_s=config.limits.timeout_s,
        keep_alive_s=config.limits.keep_alive_s,
    )
    default, others = tenants(config, deciders.routers, store)
    per_key, away = config.limits.per_key.model_dump(), config.limits.without_redis.model_dump()
    pipeline = Pipeline(
        default=default,
        others=others,
        workers=replays,
        registry=registry,
        aggregators=aggregators(config, deciders.measured),
        ensembles=ensembles(config, deciders.measured),
        store=store,
        metrics=metrics,
        limiter=Limiter(store, metrics, per_key, away),
        concurrent=config.limits.concurrent_requests,
        breaker=BreakerRules(**config.limits.breaker.model_dump()),
        waiting=config.limits.waiting_requests,
        queue_s=config.limits.queue_s,
        batches={
            family: config.family(family).max_num_seqs
            for family in registry.families()
            if config.engine(family) == "vllm"
        },
    )
    kept = config.limits.idempotency
    once = Rules(
        enabled=kept.enabled,
        ttl_s=kept.ttl_s,
        max_bytes=kept.max_bytes,
        closed=kept.without_redis == "closed",
        wait_s=config.limits.timeout_s,
        body_bytes=config.limits.body_bytes,
        linger_s=kept.linger_s,
    )
    bounds = Bounds(connections=config.limits.connections, body_s=config.limits.body_s)
    cors = Cors(allowed_origins(config.server.cors_origins), config.server.cors_credentials)
    batches = None
    if config.batch.enabled:
        storage = open_storage(config.batch.files_url, home)
        engines = Engines.of(config)
        batches = batches_of(
            config.batch, engines, registry, storage, store, pipeline, replays, limits, deciders.encoder, metrics
        )
    keys, own = Keys(store), told_settings(config, deciders.measured)
    app = create_app(
        pipeline,
        registry,
        keys,
        limits,
        metrics,
        deciders.encoder,
        ready_s=config.limits.ready_s,
        settings=own,
        once=once,
        batches=batches,
        bounds=bounds,
        cors=cors,
    )
    room = config.limits.concurrent_requests + config.limits.waiting_requests
    keeper = Doorkeeper(Door(room, config.limits.gateway_s), metrics)
    server = make_server(app, bounds, keeper=keeper, tls=tls, drain_s=config.limits.drain_s)
    beside = [asyncio.create_task(each) for each in (_announce(pipeline, registry, reporter, started), keeper.keep())]
    gc.collect()
    gc.set_threshold(10_000, 20, 20)
    gc.freeze()  # what is here now stays: the collector need not look at it again, which stops the loop for 0.1 s
    if batches is not None and config.batch.run:
        beside.append(asyncio.create_task(batches.runner.run()))
    try:
        async with workers:
            await _serve_until_signal(server, listener)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await pipeline.drain()
        await store.close()


async def _serve_until_signal(server: uvicorn.Server, listener: socket.socket) -> None:
    """uvicorn answers SIGINT and SIGTERM by a graceful stop; its own way raises the signal again afterwards, when the
    rest is still to be stopped."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    with contextlib.ExitStack() as stack:
        # libuv takes one connection of a listening socket a turn of the loop. When a turn takes long, those that come
        # meanwhile would wait in the kernel where nobody can answer them; so the loop has the socket many times.
        again = [stack.enter_context(listener.dup()) for _ in range(ACCEPTED_A_TURN - 1)]
        await server._serve([listener, *again])


async def _announce(
    pipeline: Pipeline, registry: Registry, reporter: Reporter, started: Callable[[dict[str, str]], None]
) -> None:
    """Tells how the experts load, and once all are there or have failed, that the service is up."""
    known = -1
    while True:
        waiting = await pipeline.not_ready()
        failed = {name: why.removeprefix("failed: ") for name, why in waiting.items() if why.startswith("failed: ")}
        done = len(registry) - len(waiting) + len(failed)
        if done != known:
            known = done
            reporter.progress("loading experts", done, len(registry))
        if done == len(registry):
            started(failed)
            return
        await asyncio.sleep(0.5)
