"""What takes several requests: waiting for a batch, reading its files, and all of it at once. See client.py."""

import heapq
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from pydantic import ValidationError

from coe_client import batch_calls as calls
from coe_client.answers import first_problem
from coe_client.batch_answers import Batch, File, Result, result_from
from coe_client.batch_calls import CHAT, Endpoint, Requests
from coe_client.core import Core
from coe_client.errors import BatchFailed, ConfigError, InvalidAnswer, TimedOut, shown
from coe_client.options import CallFields

__all__ = [
    "CHAT",
    "Endpoint",
    "OnProgress",
    "Requests",
    "Results",
    "Rows",
    "Told",
    "content",
    "download",
    "fetch",
    "run",
    "wait",
]

OnProgress = Callable[[Batch], None]
Results = list[Result]
FOREVER = 1 << 30
"""Tries of a look at a batch, which the time limit ends."""
CLEAN_UP_S = 10.0
"""For what is tidied when an exception leaves `run`."""


@dataclass(frozen=True, slots=True)
class Told:
    """What `run` is told."""

    endpoint: Endpoint
    defaults: Mapping[str, Any] | None
    metadata: Mapping[str, str] | None
    poll: float
    timeout: float | None
    on_progress: OnProgress | None
    keep_files: bool


class Rows:
    """The results of a batch, once `fetch` has filled the two files. In the order of the input, which is that of the
    ids of the rows."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        enter = self._stack.enter_context
        self.files: tuple[BinaryIO, BinaryIO] = enter(tempfile.TemporaryFile()), enter(tempfile.TemporaryFile())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Result]:
        return map(_result, heapq.merge(*map(_parsed, self.files), key=lambda row: str(row.get("id"))))


def _parsed(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    file.seek(0)
    for line in file:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InvalidAnswer(f"a line of a batch's output is no JSON object: {shown(line)}")
        yield row


def _result(row: Mapping[str, Any]) -> Result:
    try:
        return result_from(row)
    except ValidationError as error:
        problem = first_problem(error)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise InvalidAnswer(f"a line of a batch's output is none ({problem}); it begins {shown(row)!r}")


async def content(core: Core, file: File | str, fields: CallFields) -> bytes:
    sink = BytesIO()
    await core.run(calls.file_content(file, sink, **fields))
    return sink.getvalue()


async def download(core: Core, file: File | str, path: str | os.PathLike[str], fields: CallFields) -> None:
    whole = Path(path)
    draft = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        with draft.open("wb") as sink:
            await core.run(calls.file_content(file, sink, **fields))
        draft.replace(whole)
    finally:
        draft.unlink(missing_ok=True)


async def wait(
    core: Core, batch: Batch | str, poll: float, limit: float | None, on_progress: OnProgress | None
) -> Batch:
    """limit: seconds for all of it."""
    if not poll > 0 or (limit is not None and not limit > 0):
        raise ConfigError(f"poll, timeout: must be seconds over 0; got {poll!r}, {limit!r}")
    until = None if limit is None else core.settings.now() + limit
    while True:
        now = await core.run(replace(calls.batch(batch), max_retries=FOREVER, timeout=_left(core, until)))
        if on_progress is not None:
            on_progress(now)
        if now.ended:
            return now
        if until is not None and core.settings.now() + poll > until:
            raise TimedOut(f"the batch {now.id} is {now.status} after {limit:g} s; it goes on")
        await core.io.sleep(poll)


def _left(core: Core, until: float | None) -> float | None:
    """Seconds for a look."""
    return None if until is None else max(0.001, min(core.settings.timeout, until - core.settings.now()))


async def fetch(core: Core, batch: Batch | str, rows: Rows, fields: CallFields) -> None:
    """Raises BatchFailed, and ConfigError for a batch that has not ended."""
    if not isinstance(batch, Batch) or not batch.ended:
        batch = await core.run(calls.batch(batch, **fields))
    if batch.status == "failed":
        why = "; ".join(batch.problems) or "the service did not say why"
        raise BatchFailed(f"the batch {batch.id} failed: {why}", batch=batch.id)
    if not batch.ended:
        raise ConfigError(f"the batch {batch.id} is {batch.status}; wait for its end first")
    for file_id, sink in zip((batch.output_file_id, batch.error_file_id), rows.files, strict=True):
        if file_id is not None:
            await core.run(calls.file_content(file_id, sink, **fields))


async def run(core: Core, requests: Requests, told: Told) -> Results:
    asked = 0

    def counted() -> Iterator[Any]:
        nonlocal asked
        for one in requests:
            asked += 1
            yield one

    file = await core.run(calls.upload(counted(), endpoint=told.endpoint, defaults=told.defaults))
    made: Batch | None = None
    try:
        if not asked:
            return []
        made = await core.run(calls.create(file, endpoint=told.endpoint, metadata=told.metadata))
        made = await wait(core, made, told.poll, told.timeout, told.on_progress)
        with Rows() as rows:
            await fetch(core, made, rows, {})
            results = list(rows)
        if len(results) != asked:
            raise InvalidAnswer(f"the batch {made.id} has {len(results)} results of {asked} requests")
        return results
    except BaseException:
        if made is not None and not made.ended:
            with suppress(Exception):  # what left this is told, not what was in the way of tidying
                await core.run(calls.cancel(made, timeout=CLEAN_UP_S))
        raise
    finally:
        if not told.keep_files:
            ids = (file.id, made and made.output_file_id, made and made.error_file_id)
            for file_id in filter(None, ids):
                with suppress(Exception):  # what left this is told, not what was in the way of tidying
                    await core.run(calls.delete_file(cast("str", file_id), timeout=CLEAN_UP_S))
