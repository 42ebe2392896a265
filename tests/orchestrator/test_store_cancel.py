"""Whoever is cancelled while it waits for Redis ends, in whatever moment that is."""

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.faults.relay import Relay, unix
from orchestrator.store import Store


async def test_no_cancellation_is_lost(store: Store) -> None:
    went_on = 0

    async def ask() -> None:
        nonlocal went_on
        await store.run("return redis.call('ZRANGE', KEYS[1], 0, -1)", ["k"], [])
        went_on += 1

    for turns in range(400):
        task = asyncio.create_task(ask())
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        if not task.done():
            before = went_on
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            assert went_on == before


async def test_no_cancellation_is_lost_where_the_connection_breaks_before_the_answer(
    redis_url: str, tmp_path: Path
) -> None:
    for turns in range(20):
        socket = tmp_path / f"{turns}.sock"
        relay = Relay([unix(Path(unquote(urlsplit(redis_url).path)))])
        await relay.on_unix(socket)
        store = Store(f"unix://{socket}", timeout=30)
        await store.ping()  # there is a connection
        relay.hold()
        task = asyncio.create_task(store.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await relay.close()
        socket.unlink(missing_ok=True)
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), turns
        await store.close()
