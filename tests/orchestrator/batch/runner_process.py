"""A runner in a process of its own, to be killed: with a slow engine, on a Redis and a folder of others."""

import asyncio
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

from orchestrator.store import Store
from tests.orchestrator.parts import BATCH, Service

LEASE_S = 0.4
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.orchestrator.batch.runner_process"])


def start(redis_url: str, home: Path, token_delay: float) -> BaseProcess:
    process = _forks.Process(target=_main, args=(redis_url, home, token_delay), daemon=True)
    process.start()
    return process


def _main(redis_url: str, home: Path, token_delay: float) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(_run(redis_url, home, token_delay))


async def _run(redis_url: str, home: Path, token_delay: float) -> None:
    config = BATCH.model_copy(update={"lease_s": LEASE_S})
    service = await Service.start(Store(redis_url, timeout=5), key="none", batch=home, batch_config=config)
    assert service.batches is not None
    for engine in service.engines.values():
        engine.token_delay = token_delay
    await service.batches.runner.run()
