"""The feed tells each owner how its own batches stand, whatever happens to those of others."""

from typing import Any

from orchestrator.feed import Feed, Reader
from tests.orchestrator.feed_parts import EVERYTHING, Workers, kinds, reading

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
        assert all(kind != "batch" for kind, _ in await kinds(other))


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


async def test_what_is_told_of_batches_is_bounded() -> None:
    reader = Reader(EVERYTHING, "a")
    for number in range(100):
        reader.see_jobs({"id": f"batch_{each}", "status": "validating"} for each in range(number, number + 20))
    assert len(reader._last) == 20
