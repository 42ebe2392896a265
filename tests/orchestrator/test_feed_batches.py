"""The feed tells each owner how its own batches stand, whatever happens to those of others."""

import asyncio
from typing import Any

import pytest

from orchestrator.feed import Feed, Reader
from orchestrator.store import StoreUnavailable
from tests.orchestrator.feed_parts import EVERYTHING, Workers, kinds, reading, stats

Jobs = list[dict[str, Any]]


def batch(status: str) -> Jobs:
    return [{"id": "batch_1", "status": status}]


async def until_told(reader: Reader, status: str) -> None:
    while ("batch", status) not in await kinds(reader):
        pass


async def test_batches_are_told_to_their_owner_when_they_change() -> None:
    jobs: dict[str, Jobs] = {"a": batch("validating"), "b": []}

    async def newest(owner: str) -> Jobs:
        return jobs[owner]

    feed = Feed(Workers(), newest, look_s=0.001)
    with reading(feed) as own, reading(feed, "b") as other:
        await until_told(own, "validating")
        jobs["a"] = batch("in_progress")
        assert await kinds(own) == [("batch", "in_progress")]
        assert await kinds(other) == [("engine", None), ("batches", [])]


async def test_batches_that_cannot_be_told_hide_nobody_elses() -> None:
    async def newest(owner: str) -> Jobs:
        if owner == "a":
            raise RuntimeError("its storage is away")
        return batch("completed")

    feed = Feed(Workers(), newest, look_s=0.001)
    with reading(feed), reading(feed, "b") as second:
        await until_told(second, "completed")


async def test_batches_that_cannot_be_told_end_nothing() -> None:
    asked = 0

    async def newest(owner: str) -> Jobs:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("the storage is away")
        return batch("completed")

    with reading(Feed(Workers(), newest, look_s=0.001)) as reader:
        await until_told(reader, "completed")


async def test_a_store_that_is_slow_to_tell_of_batches_keeps_nobody_from_what_the_engines_do() -> None:
    async def never(owner: str) -> Jobs:
        await asyncio.Event().wait()
        raise AssertionError

    workers = Workers()
    with reading(Feed(workers, never, look_s=0.001)) as reader:
        assert await kinds(reader) == [("engine", None)]
        workers.told = stats(active="math")
        assert await kinds(reader) == [("engine", "math")]


async def test_a_store_that_is_away_is_asked_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.feed.JOBS_S", 0.001)
    asked: list[str] = []

    async def newest(owner: str) -> Jobs:
        asked.append(owner)
        if len(asked) < 3:
            raise StoreUnavailable("it is away")
        return batch("completed")

    feed = Feed(Workers(), newest, look_s=0.001)
    with reading(feed), reading(feed, "b") as second:
        await until_told(second, "completed")
    assert asked[:4] == ["a", "a", "a", "b"]


async def test_of_batches_that_others_push_out_it_is_told_that_they_are_followed_no_more() -> None:
    reader = Reader(EVERYTHING, "a")
    reader.see_jobs(batch("in_progress"))
    assert await kinds(reader) == [("batches", ["batch_1"]), ("batch", "in_progress")]
    reader.see_jobs(batch("finalizing"))
    reader.see_jobs([{"id": "batch_2", "status": "validating"}])  # before he has taken what was told of the first
    assert await kinds(reader) == [("batches", ["batch_2"]), ("batch", "validating")]


async def test_what_is_told_of_batches_is_bounded() -> None:
    reader = Reader(EVERYTHING, "a")
    for number in range(100):
        reader.see_jobs({"id": f"batch_{each}", "status": "validating"} for each in range(number, number + 20))
    assert len(reader._last) == 21
    assert len(await reader.take(5)) == 21
