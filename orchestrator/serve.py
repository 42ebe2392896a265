"""`coe serve`: everything that runs, in the order in which it starts. It stops in reverse, whatever happens.

weights -> router -> port -> Redis -> first key -> Ray and the workers -> the gateway (uvicorn, in this process)
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import structlog
import uvloop

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.config.model import Config, RouterConfig
from orchestrator.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from orchestrator.keys import Keys
from orchestrator.listening import CannotStart as CannotStart
from orchestrator.listening import allow_files, exposed, listening, tls_context
from orchestrator.settings import Settings, is_loopback
from orchestrator.store import Store, StoreUnavailable

if TYPE_CHECKING:
    import ssl

    import uvicorn

    from orchestrator.aggregation import Measured
    from orchestrator.cluster import ServeWorkers
    from orchestrator.pipeline import Pipeline
    from routers.base import Router
    from routers.encoders.base import TokenEncoder

ACCEPTED_A_TURN = 64
"""New connections that a turn of the event loop takes."""

log = structlog.stdlib.get_logger(__name__)


class Reporter(Protocol):
    """How a start is told to the user."""

    def say(self, line: str) -> None:
        """A step that begins, or a fact."""
        ...

    def progress(self, what: str, done: int, of: int) -> None:
        """A long step: `done` of `of` are there, `what` is next."""
        ...

    def ready(self, banner: "Banner") -> None: ...


@dataclass(frozen=True, slots=True)
class Banner:
    """What a user needs once the service answers. new_key: the key that was made at this start, else None."""

    url: str
    new_key: str | None
    key_given: bool
    experts: int
    failed: dict[str, str]
    seconds: float


def prepare(config: Config, home: Path, reporter: Reporter) -> None:
    """Makes what is missing: the starter pool's checkpoints and router, the static encoder if it is wanted.

    Raises experts.starter.StarterUnavailable.
    """
    prepare_experts(config.experts, home, reporter)
    prepare_routers(config, home, reporter)


def _prepare_router(router: RouterConfig, home: Path, reporter: Reporter) -> None:
    if router.encoder == "static":
        from routers.encoders.choice import open_encoder

        open_encoder("static", home, on_progress=reporter.progress)
    if router.kind == "two-level" and router.path is None:
        from routers import starter as starter_router

        if not starter_router.is_fitted(home, router.encoder):
            reporter.say("fitting the starter router (once, about a minute)")
            starter_router.fit(home, reporter.progress, router.encoder)


def prepare_experts(experts: Iterable[ExpertSpec], home: Path, reporter: Reporter) -> None:
    """Makes what is missing of the starter pool's checkpoints, if one of them is among `experts`.

    Raises experts.starter.StarterUnavailable.
    """
    from experts import starter

    wanted = {spec.source for spec in experts} & {spec.source for spec in starter.starter_experts(home)}
    if wanted and not starter.is_built(home):
        reporter.say("preparing the starter experts (once, about a minute)")
        starter.build(home, reporter.progress)


def prepare_routers(config: Config, home: Path, reporter: Reporter) -> None:
    """Makes what is missing of what routers need."""
    for router in config.routers().values():
        _prepare_router(router, home, reporter)


def serve(settings: Settings, config: Config, reporter: Reporter, *, fake: bool = False, attach: bool = False) -> None:
    """Runs the service until SIGINT or SIGTERM.

    fake: canned engines in place of vLLM. attach: the workers are those that `coe workers keep` runs.
    Raises CannotStart, StarterUnavailable, EmbeddedRedisError, StoreUnavailable.
    """
    began = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if attach and settings.ray_address is None:
        raise CannotStart("--attach is for workers on a Ray cluster that is there: name it by --ray-address")
    if fake:
        config = with_fake_engines(config)
    elif attach:
        prepare_routers(config, settings.home, reporter)
    else:
        prepare(config, settings.home, reporter)
    registry = config.registry()
    tls = tls_context(config)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(settings.host, settings.port))
        redis = None if settings.redis_url else _embedded(stack, settings.home, reporter)
        redis_url = settings.redis_url or (redis.url if redis else "")
        new_key = asyncio.run(_first_key(redis_url, settings))
        for told in (exposed(settings, config), allow_files(config.limits.connections)):
            if told:
                reporter.say(told)

        from orchestrator.cluster import cluster, shared_cluster
        from orchestrator.plans import TooFewCores

        reporter.say("loading the router")
        encoders = Encoders(settings.home)
        routers = {name: load_router(router, settings.home, encoders) for name, router in config.routers().items()}
        encoder = None if config.router.kind == "fixed" else encoders.open(config.router.encoder)
        measured = _measured(config)
        for name, router in config.routers().items():
            if told := strangers(router, routers[name], registry.names):
                reporter.say(f"tenant {name}: {told}" if name else told)
        try:
            if attach and settings.ray_address is not None:
                of_all = shared_cluster(config, registry, settings.home, settings.ray_address, reporter.say)
                workers = stack.enter_context(of_all)
            else:
                own = cluster(config, registry, settings.home, settings.ray_address, reporter.say)
                workers = stack.enter_context(own)
        except ConnectionError as error:
            raise CannotStart(f"the Ray cluster at {settings.ray_address} cannot be reached: {error}") from error
        except TooFewCores as error:
            raise CannotStart(str(error)) from error

        def started(failed: dict[str, str]) -> None:
            reporter.ready(
                Banner(
                    settings.url,
                    new_key,
                    settings.api_key is not None,
                    len(registry),
                    failed,
                    time.monotonic() - began,
                )
            )

        gateway = _gateway(
            config,
            registry,
            routers,
            encoder,
            measured,
            workers,
            redis_url,
            settings.home,
            listener,
            tls,
            reporter,
            started,
        )
        uvloop.run(_beside(gateway, _keep_redis(redis) if redis else None))


async def _beside(main: Coroutine[None, None, None], other: Coroutine[None, None, None] | None) -> None:
    """Runs `main` to its end, and `other` as long as that takes."""
    task = asyncio.create_task(other) if other else None
    try:
        await main
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _gateway(
    config: Config,
    registry: Registry,
    routers: "Mapping[str | None, Router]",
    encoder: "TokenEncoder | None",
    measured: "Measured",
    workers: "ServeWorkers",
    redis_url: str,
    home: Path,
    listener: socket.socket,
    tls: "ssl.SSLContext | None",
    reporter: Reporter,
    started: Callable[[dict[str, str]], None],
) -> None:
    """The HTTP side, until a signal comes."""
    from orchestrator.access.breaker import Rules as BreakerRules
    from orchestrator.access.limiter import Limiter
    from orchestrator.aggregation import aggregators, ensembles, told_settings
    from orchestrator.batch.replays import Replays
    from orchestrator.batch.service import Engines, batches_of, open_storage
    from orchestrator.http.api import create_app
    from orchestrator.http.door import Door
    from orchestrator.http.doorkeeper import Doorkeeper
    from orchestrator.http.guards import Bounds, Cors, allowed_origins
    from orchestrator.http.once import Rules
    from orchestrator.http.server import make_server
    from orchestrator.http.wire import Limits
    from orchestrator.metrics import Metrics
    from orchestrator.pipeline import Pipeline
    from orchestrator.tenants import tenants

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
    default, others = tenants(config, routers, store)
    per_key, away = config.limits.per_key.model_dump(), config.limits.without_redis.model_dump()
    pipeline = Pipeline(
        default=default,
        others=others,
        workers=replays,
        registry=registry,
        aggregators=aggregators(config, measured),
        ensembles=ensembles(config, measured),
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
            config.batch, engines, registry, storage, store, pipeline, replays, limits, encoder, metrics
        )
    keys, own = Keys(store), told_settings(config, measured)
    app = create_app(
        pipeline,
        registry,
        keys,
        limits,
        metrics,
        encoder,
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


async def _serve_until_signal(server: "uvicorn.Server", listener: socket.socket) -> None:
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
    pipeline: "Pipeline", registry: Registry, reporter: Reporter, started: Callable[[dict[str, str]], None]
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


class Encoders:
    """The encoders under a home folder, each opened once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._open: dict[str, TokenEncoder] = {}

    def open(self, kind: Literal["minilm", "static"]) -> "TokenEncoder":
        """Raises EncoderUnavailable."""
        from routers.encoders.choice import open_encoder

        if kind not in self._open:
            self._open[kind] = open_encoder(kind, self._home)
        return self._open[kind]


def load_router(config: RouterConfig, home: Path, encoders: Encoders) -> "Router":
    """The router that the configuration names. Raises CannotStart if its files cannot be used."""
    if config.kind == "fixed":
        from routers.fixed import FixedRouter

        assert config.fallback is not None
        return FixedRouter(config.fallback, aggregator=config.aggregator)
    from routers import starter as starter_router
    from routers.encoders.base import EncoderUnavailable
    from routers.files import RouterFileError
    from routers.fitted import open_router

    where = config.path or starter_router.folder(home, config.encoder)
    try:
        return open_router(where, encoders.open(config.encoder), config.aggregator)
    except (RouterFileError, EncoderUnavailable) as error:
        raise CannotStart(str(error)) from error


def strangers(config: RouterConfig, router: "Router", experts: Sequence[str]) -> str | None:
    """What is to be told of a fitted router and a service whose experts are not the same; None = nothing.

    Raises CannotStart if a router that the configuration names knows none of them.
    """
    known: Sequence[str] = getattr(router, "experts", ())
    if config.kind == "fixed" or not known:
        return None
    missing = [name for name in known if name not in experts]
    new = [name for name in experts if name not in known]
    if config.path is not None and len(missing) == len(known):
        raise CannotStart(
            f"the router in {config.path} knows {', '.join(known)}, and the service has {', '.join(experts)}: give the "
            "experts the names of the labelled file, or fit a router on these"
        )
    told = [f"was not fitted on {', '.join(new)}: asked after all others"] if new else []
    told += [f"knows {', '.join(missing)}, of which there is no expert here"] if missing else []
    return f"the router {', and '.join(told)}" if told else None


def _measured(config: Config) -> "Measured":
    from orchestrator.aggregation import NoProfile, measured

    try:
        return measured(config)
    except NoProfile as error:
        raise CannotStart(str(error)) from error


def _embedded(stack: contextlib.ExitStack, home: Path, reporter: Reporter) -> EmbeddedRedis:
    reporter.say("starting the embedded Redis")
    return stack.enter_context(EmbeddedRedis(home))


async def _keep_redis(redis: EmbeddedRedis) -> None:
    """Starts the embedded Redis again whenever it has gone; its append-only file has what was there."""
    while True:
        await asyncio.sleep(1)
        if redis.pid is None:
            log.error("the embedded Redis is gone; starting it again")
            try:
                await asyncio.to_thread(redis.start)
            except EmbeddedRedisError as error:
                log.error("the embedded Redis does not start", why=str(error))
                await asyncio.sleep(10)


async def _first_key(redis_url: str, settings: Settings) -> str | None:
    """Makes sure that there is a key to come in with. Returns the key if it was made now, to be shown once."""
    store = Store(redis_url)
    try:
        keys = Keys(store)
        if settings.api_key is not None:
            await keys.ensure(settings.api_key.get_secret_value())
            return None
        if await keys.list():
            return None
        if not is_loopback(settings.host):
            # A key made here would stand in the log of whatever starts the service, for all who read that.
            raise CannotStart(
                f"there is no API key yet, and {settings.host} can be reached from other machines: set COE_API_KEY, or "
                "make a key first, with `coe keys create NAME`"
            )
        return (await keys.create("first"))[0]
    except StoreUnavailable as error:
        raise CannotStart(
            f"Redis at {settings.redis_url_safe or 'the embedded socket'} does not answer: {error}. Start it, or unset "
            "COE_REDIS_URL to use the embedded one"
        ) from error
    finally:
        await store.close()


def with_fake_engines(config: Config) -> Config:
    families = {
        name: config.family(name).model_copy(update={"engine": "fake"}) for name in config.registry().families()
    }

    def without_weights(router: RouterConfig) -> RouterConfig:
        if router.kind == "fixed" or router.path is not None:
            return router
        return router.model_copy(update={"kind": "fixed", "fallback": router.fallback or config.registry().names[0]})

    routers = {name: without_weights(router) for name, router in config.routers().items()}
    return config.with_routers(routers).model_copy(update={"families": families})
