"""A disk without room: a batch waits, says why, and goes on when there is room. No line is lost or run twice."""

import asyncio
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types import Batch

from orchestrator.store import Store
from tests.orchestrator.batch import jsonl, runner_process
from tests.orchestrator.batch.conftest import create, ended, errors, output, running, until
from tests.orchestrator.batch.test_kills import front, own_redis
from tests.orchestrator.parts import Service
from workers.base import ChatCall

__all__ = ["front", "own_redis"]
LINES = [jsonl.chat(f"id-{n}", f"{runner_process.LONG} {n}") for n in range(60)]


async def stuck(service: Service, batch_id: str, status: str, why: str) -> Batch:
    """The batch, once it has this status and says so of what is in its way."""

    async def is_stuck() -> Batch | None:
        batch = await service.openai.batches.retrieve(batch_id)
        told = [own.message or "" for own in (batch.errors.data or [])] if batch.errors else []
        return batch if batch.status == status and any(why in own for own in told) else None

    found: Batch = await until(is_stuck)
    return found


# A limit of the process on the size of files, which any user can set


@pytest.mark.timeout(300)
async def test_a_batch_meets_a_limit_at_each_step_and_goes_on(front: Service, tmp_path: Path) -> None:
    batch = await create(front, jsonl.file(LINES))
    redis_url = f"unix://{tmp_path}/redis-home/redis/redis.sock"
    runner = runner_process.start(redis_url, tmp_path / "home", 0.0, file_bytes=1000)
    assert runner.pid is not None
    try:
        await stuck(front, batch.id, "validating", "File too large")  # the plan
        resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (13_000, resource.RLIM_INFINITY))
        found = await stuck(front, batch.id, "in_progress", "File too large")  # a block of eight results
        assert found.request_counts is not None
        assert found.request_counts.completed < 60
        resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        found = await stuck(front, batch.id, "finalizing", "File too large")  # the file of outputs
        assert found.request_counts is not None
        assert found.request_counts.completed == 60
        assert found.output_file_id is None
        resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        done = await ended(front, batch.id)
    finally:
        runner.kill()
        runner.join()
    assert (done.status, done.errors) == ("completed", None)
    rows = await output(front, done)
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(60)]
    assert all(jsonl.said(row) == "word " * 400 for row in rows)
    assert await errors(front, done) == []


# A disk that is full, where one may be mounted


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that takes all room but so many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(bytes(max(0, free - left)))
    return ballast


def files(disk: Path) -> set[Path]:
    return {path for path in disk.rglob("*") if path.is_file()}


async def test_results_wait_for_room_and_no_line_is_run_twice(store: Store, disk: Path) -> None:
    service = await Service.start(store, batch=disk / "home")
    batch = await create(service, jsonl.file(LINES))
    asked = Counter[str]()

    def answer(call: ChatCall) -> str:
        asked[call.messages[-1]["content"]] += 1
        return runner_process.answer(call)

    service.engine.answer = answer
    ballast = fill(disk, left=60_000)  # of the 150,000 that the results have
    async with running(service):
        await stuck(service, batch.id, "in_progress", "No space left on device")
        ballast.unlink()
        done = await ended(service, batch.id)
    assert (done.status, done.errors) == ("completed", None)
    assert [row["custom_id"] for row in await output(service, done)] == [f"id-{n}" for n in range(60)]
    assert set(asked.values()) == {1}
    await service.stop()


async def test_a_batch_that_waits_for_room_can_be_cancelled_and_keeps_what_it_has(store: Store, disk: Path) -> None:
    service = await Service.start(store, batch=disk / "home")
    service.engine.answer = runner_process.answer
    batch = await create(service, jsonl.file(LINES))
    ballast = fill(disk, left=60_000)
    async with running(service):
        await stuck(service, batch.id, "in_progress", "No space left on device")
        assert (await service.openai.batches.cancel(batch.id)).status == "cancelling"
        await asyncio.sleep(0.2)
        ballast.unlink()
        done = await ended(service, batch.id)
    good, bad = await output(service, done), await errors(service, done)
    assert done.status == "cancelled"
    assert len(good) + len(bad) == 60
    assert good
    await service.stop()


async def test_what_cannot_be_made_on_a_full_disk_is_refused_and_leaves_nothing(store: Store, disk: Path) -> None:
    service = await Service.start(store, batch=disk / "home")
    file = await service.openai.files.create(file=("in.jsonl", jsonl.file(LINES)), purpose="batch")
    before = files(disk)
    ballast = fill(disk, left=0)
    with pytest.raises(openai.InternalServerError, match="no room on the disk") as refused:
        await service.openai.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert (refused.value.status_code, refused.value.code) == (507, "storage_full")
    with pytest.raises(openai.InternalServerError, match="no room on the disk"):
        await service.openai.files.create(file=("in.jsonl", jsonl.file(LINES)), purpose="batch")
    ballast.unlink()
    assert files(disk) == before
    await service.stop()
