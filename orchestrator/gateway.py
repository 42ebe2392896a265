"""The gateway of `coe serve`: the HTTP side, which may change while it runs, and what runs beside it in the process."""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from orchestrator.applying import Gateway, Source
from orchestrator.cluster import Fleet
from orchestrator.config.model import Config
from orchestrator.http.door import Door
from orchestrator.http.doorkeeper import Doorkeeper
from orchestrator.http.server import make_server
from orchestrator.preparing import Deciders
from orchestrator.reporter import Reporter
from orchestrator.site import Shared

ACCEPTED_A_TURN = 64
"""New connections that a turn of the event loop takes."""


async def run_gateway(
    config: Config,
    home: Path,
    deciders: Deciders,
    fleet: Fleet,
    redis_url: str,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    reporter: Reporter,
    started: Callable[[dict[str, str]], None],
    source: Source | None = None,
) -> None:
    """The HTTP side, until a signal comes. source: of other configurations, None = there are none."""
    shared = Shared.of(config, home, redis_url)
    gateway = Gateway(shared, fleet, source)
    limits = config.limits
    keeper = Doorkeeper(Door(limits.concurrent_requests + limits.waiting_requests, limits.gateway_s), shared.metrics)
    server = make_server(gateway, shared.bounds, keeper=keeper, tls=tls, drain_s=limits.drain_s)
    await gateway.start(config, fleet.found, deciders)
    beside = [asyncio.create_task(each) for each in (_announce(gateway, reporter, started), keeper.keep())]
    gc.collect()
    gc.set_threshold(10_000, 20, 20)
    gc.freeze()  # what is here now stays: the collector need not look at it again, which stops the loop for 0.1 s
    try:
        await _serve_until_signal(server, listener, gateway.end_streams)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await gateway.stop()
        await asyncio.to_thread(shared.tracing.close)
        await shared.store.close()


async def _serve_until_signal(server: uvicorn.Server, listener: socket.socket, end_streams: Callable[[], None]) -> None:
    """uvicorn answers SIGINT and SIGTERM by a graceful stop; its own way raises the signal again afterwards, when the
    rest is still to be stopped."""
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        end_streams()
        server.handle_exit(number, None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    with contextlib.ExitStack() as stack:
        # libuv takes one connection of a listening socket a turn of the loop. When a turn takes long, those that come
        # meanwhile would wait in the kernel where nobody can answer them; so the loop has the socket many times.
        again = [stack.enter_context(listener.dup()) for _ in range(ACCEPTED_A_TURN - 1)]
        await server._serve([listener, *again])


async def _announce(gateway: Gateway, reporter: Reporter, started: Callable[[dict[str, str]], None]) -> None:
    """Tells how the experts load, and once all are there or have failed, that the service is up."""
    known = -1
    while True:
        site = gateway.site
        waiting = await site.pipeline.not_ready()
        failed = {name: why.removeprefix("failed: ") for name, why in waiting.items() if why.startswith("failed: ")}
        done = len(site.registry) - len(waiting) + len(failed)
        if done != known:
            known = done
            reporter.progress("loading experts", done, len(site.registry))
        if done == len(site.registry):
            started(failed)
            return
        await asyncio.sleep(0.5)
