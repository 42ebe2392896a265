"""Whoever is cancelled while it waits for Redis ends, in whatever moment that is."""

import asyncio

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
