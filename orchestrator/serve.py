"""`coe serve`: everything that runs, in the order in which it starts. It stops in reverse, whatever happens.

weights -> router -> port -> Redis -> first key -> Ray and the workers -> the gateway (uvicorn, in this process)
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import structlog
import uvloop

from orchestrator.config.model import Config
from orchestrator.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from orchestrator.keys import Keys
from orchestrator.listening import CannotStart, allow_files, exposed, listening, tls_context
from orchestrator.preparing import Source, load_deciders, prepare, prepare_routers, with_fake_engines
from orchestrator.reporter import Banner, Reporter
from orchestrator.settings import Settings, is_loopback
from orchestrator.store import Store, StoreUnavailable

log = structlog.stdlib.get_logger(__name__)


def serve(
    settings: Settings,
    config: Config,
    reporter: Reporter,
    *,
    fake: bool = False,
    attach: bool = False,
    read: Callable[[], Config] | None = None,
) -> None:
    """Runs the service until SIGINT or SIGTERM.

    fake: canned engines in place of vLLM. attach: the workers are those that `coe workers keep` runs. read: makes the
    configuration of its file as it is by then, for `coe experts apply`; None if there is no file.
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
        from orchestrator.gateway import run_gateway
        from orchestrator.plans import TooFewCores

        reporter.say("loading the router")
        deciders = load_deciders(config, settings.home, reporter)
        try:
            if attach and settings.ray_address is not None:
                of_all = shared_cluster(config, registry, settings.home, settings.ray_address, reporter.say)
                fleet = stack.enter_context(of_all)
            else:
                own = cluster(config, registry, settings.home, settings.ray_address, reporter.say)
                fleet = stack.enter_context(own)
        except ConnectionError as error:
            raise CannotStart(f"the Ray cluster at {settings.ray_address} cannot be reached: {error}") from error
        except TooFewCores as error:
            raise CannotStart(str(error)) from error

        def started(failed: dict[str, str]) -> None:
            given, seconds = settings.api_key is not None, time.monotonic() - began
            console = f"{settings.url}/console/" if config.server.console else None
            reporter.ready(Banner(settings.url, new_key, given, len(registry), failed, seconds, console))

        def of_use() -> Config:
            assert read is not None
            return with_fake_engines(read()) if fake else read()

        source = Source(of_use, settings.home, attach=attach) if read is not None else None
        gateway = run_gateway(
            config, settings.home, deciders, fleet, redis_url, listener, tls, reporter, started, source
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
