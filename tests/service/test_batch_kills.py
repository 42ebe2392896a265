"""A batch on the whole service with the fake engine, while its parts are killed: Redis, the worker, the gateway."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from openai.types import Batch

from benchmarks.live import Live, service
from tests.processes import descendants

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]
LINES = 4000


def kill(live: Live, name: str) -> None:
    [pid] = [pid for pid, command in descendants(live.process.pid).items() if name in command]
    os.kill(pid, signal.SIGKILL)


def until(client: openai.OpenAI, batch_id: str, is_so: Callable[[Batch], bool]) -> Batch:
    """What cannot be told just now, while a part is away, is asked again."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(openai.InternalServerError, openai.APIConnectionError):
            batch = client.batches.retrieve(batch_id)
            if is_so(batch):
                return batch
        time.sleep(0.1)
    raise AssertionError(client.batches.retrieve(batch_id))


def done(least: int) -> Callable[[Batch], bool]:
    return lambda batch: batch.request_counts is not None and batch.request_counts.completed >= least


def test_a_batch_outlives_redis_worker_and_gateway(tmp_path: Path) -> None:
    words = "some words that take the engine a while to say again " * 5
    lines = [
        {
            "custom_id": f"id-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": [{"role": "user", "content": f"{words} {n}"}]},
        }
        for n in range(LINES)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with service(tmp_path, ["--fake"], within=120) as live:
        started = descendants(live.process.pid)
        with openai.OpenAI(base_url=live.base_url, api_key=live.key, max_retries=0) as client:
            file = client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            until(client, batch.id, done(200))
            kill(live, "redis-server")
            until(client, batch.id, done(600))
            kill(live, "ServeReplica")
            at_kill = until(client, batch.id, done(1200))
            assert at_kill.status == "in_progress"
        started |= descendants(live.process.pid)
        live.process.kill()
        live.process.wait()
        try:
            with (
                service(tmp_path, ["--fake"], {"COE_API_KEY": live.key}, within=120) as again,
                openai.OpenAI(base_url=again.base_url, api_key=live.key, max_retries=0) as client,
            ):
                ended = until(client, batch.id, lambda own: own.status not in ("in_progress", "finalizing"))
                assert ended.output_file_id is not None, ended
                rows = [json.loads(row) for row in client.files.content(ended.output_file_id).text.splitlines()]
        finally:
            for pid in started:  # what a process that is killed leaves behind
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert (ended.status, ended.error_file_id) == ("completed", None)
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(LINES)]
    assert all(
        row["response"]["body"]["choices"][0]["message"]["content"].endswith(f"{words} {n}")
        for n, row in enumerate(rows)
    )
