"""What the tests of the feed share: workers whose log a test writes, and readers of what is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.access.grant import Grant
from orchestrator.feed import Feed, Reader
from workers.base import SwapEvent, WorkerStats

EVERYTHING = Grant()


def swap(number: int, image: str = "sql") -> SwapEvent:
    return SwapEvent(number, 1000.0 + number, "swap", image, "device", "device", 0, 0.001, "after math")


def log_of(first: int, last: int, *more: SwapEvent) -> tuple[SwapEvent, ...]:
    """What an engine's log has left."""
    return (*(swap(number) for number in range(first, last + 1)), *more)


def stats(*events: SwapEvent, **more: Any) -> dict[str, WorkerStats | str]:
    return {"small": WorkerStats("small", {"sql": "device", "math": "host"}, events=events, **more)}


class Workers:
    """What the workers tell, at first this log; `asked` counts."""

    def __init__(self, *log: SwapEvent) -> None:
        self.told = stats(*log)
        self.asked = 0

    async def __call__(self) -> dict[str, WorkerStats | str]:
        self.asked += 1
        return self.told


@contextmanager
def reading(feed: Feed, owner: str = "a", last: str | None = None) -> Iterator[Reader]:
    """A reader whose key may see everything, and who leaves in the end. last: id of the last event that he knows."""
    reader = feed.open(EVERYTHING, owner, last)
    try:
        yield reader
    finally:
        feed.leave(reader)


async def kinds(reader: Reader) -> list[tuple[str, Any]]:
    """What waits for him: kinds, with the image or what else tells events apart."""
    found = []
    for event in await reader.take(5):
        what = {"swap": "image", "engine": "active", "lost": "swaps", "batch": "status", "batches": "ids"}[event.kind]
        found.append((event.kind, event.data[what]))
    return found
