"""A runner in a process of its own, to be killed: with a slow engine, on a Redis and a folder of others.

A message that holds POISON ends the process at once, one that holds UNROUTABLE whoever plans for it. The answer to one
that holds LONG has two thousand bytes.
"""

import asyncio
import multiprocessing
import os
import resource
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

from orchestrator.store import Store
from routers.base import Route
from tests.orchestrator.parts import BATCH, KeywordRouter, Service
from workers.base import ChatCall
from workers.fake_engine import echo

LEASE_S = 0.4
POISON, UNROUTABLE, LONG = "poison", "unroutable", "long"
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.orchestrator.batch.runner_process"])


def start(redis_url: str, home: Path, token_delay: float, file_bytes: int = resource.RLIM_INFINITY) -> BaseProcess:
    """file_bytes: the most that a file may have to which it writes."""
    process = _forks.Process(target=_main, args=(redis_url, home, token_delay, file_bytes), daemon=True)
    process.start()
    return process


def _main(redis_url: str, home: Path, token_delay: float, file_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(_run(redis_url, home, token_delay))


async def _run(redis_url: str, home: Path, token_delay: float) -> None:
    config = BATCH.model_copy(update={"lease_s": LEASE_S})
    store = Store(redis_url, timeout=5)
    service = await Service.start(store, key="none", batch=home, batch_config=config, router=Deadly())
    assert service.batches is not None
    for engine in service.engines.values():
        engine.token_delay, engine.answer = token_delay, answer
    await service.batches.runner.run()


class Deadly(KeywordRouter):
    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        if UNROUTABLE in prompt:
            os._exit(1)
        return super().route(prompt, candidates, k)


def answer(call: ChatCall) -> str:
    """What the engine says."""
    if POISON in call.messages[-1]["content"]:
        os._exit(1)
    return "word " * 400 if LONG in call.messages[-1]["content"] else echo(call)
