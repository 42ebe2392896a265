"""Events on their way to another process: as many at a time as there are, since each message costs both ends."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from workers.base import Delta, Event


async def batches(events: AsyncGenerator[Event, None], every: float) -> AsyncGenerator[tuple[Event, ...], None]:
    """What the events say, in order, as batches that are never empty. Closing it closes them.

    every: seconds for which events are collected, unless the end comes first; with 0 a batch goes out as soon as the
    one before is taken, so that they grow only where they are taken slowly. Neighbouring Deltas become one.
    """
    waiting: list[Event] = []
    news, sent = asyncio.Event(), time.monotonic()

    async def collect() -> None:
        async with aclosing(events):
            async for event in events:
                _add(waiting, event)
                if not isinstance(event, Delta) or time.monotonic() - sent >= every:
                    news.set()

    task = asyncio.create_task(collect())
    task.add_done_callback(lambda _: news.set())
    try:
        while True:
            if not task.done():
                await news.wait()
                news.clear()
            if waiting:
                batch, sent = tuple(waiting), time.monotonic()
                waiting.clear()
                yield batch
            elif task.done():
                task.result()  # raises what the events raised
                return
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _add(waiting: list[Event], event: Event) -> None:
    last = waiting[-1] if waiting else None
    if isinstance(event, Delta) and isinstance(last, Delta) and event.choice == last.choice:
        waiting[-1] = Delta(
            last.text + event.text,
            event.usage or last.usage,
            (*last.calls, *event.calls),
            (*last.logprobs, *event.logprobs),
            event.choice,
        )
    else:
        waiting.append(event)
