"""The files that a batch ends with: each line once, in the order of the input, in that of outputs or that of errors."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from orchestrator.batch.files import Files
from orchestrator.batch.jobs import Job, Log
from orchestrator.batch.lines import custom_id_of
from orchestrator.batch.logs import records
from orchestrator.batch.planner import Prepared, error_line
from orchestrator.batch.storage import Storage
from orchestrator.errors import ApiError

OPEN = 64
"""Logs that are open at a time."""
WHY = {
    "batch_expired": "the batch had expired before this line was run",
    "batch_cancelled": "the batch was cancelled before this line was run",
}


def file_ids(job_id: str) -> tuple[str, str]:
    """Of outputs and errors: the same however often they are written."""
    own = job_id.removeprefix("batch_")
    return f"file-{own}01", f"file-{own}02"


class _Index:
    """Where each line's result is. file: (N,) which log, -1 for none; at, length: of its bytes there."""

    def __init__(self, lines: int) -> None:
        self.paths: list[Path] = []
        self.file = np.full(lines, -1, np.int32)
        self.at, self.length = np.zeros(lines, np.int64), np.zeros(lines, np.int32)
        self.is_ok = np.zeros(lines, np.bool_)

    def add(self, path: Path, counts: int | None, line_of: Callable[[int], int]) -> None:
        """counts: bytes of the log that do; None = all."""
        data = path.read_bytes()[:counts]
        number = len(self.paths)
        self.paths.append(path)
        for record in records(data):
            if record.kind == "R":
                line = line_of(record.step)
                assert self.file[line] < 0, f"line {line} has two results that count"
                self.file[line], self.is_ok[line] = number, record.is_ok
                self.at[line], self.length[line] = record.at, record.length


class _Open:
    """Files to read from, the last OPEN of them."""

    def __init__(self, paths: list[Path], stack: ExitStack) -> None:
        self._paths, self._open = paths, OrderedDict[int, BinaryIO]()
        stack.callback(lambda: [file.close() for file in self._open.values()])

    def read(self, number: int, at: int, length: int) -> bytes:
        file = self._open.pop(number, None) or self._paths[number].open("rb")
        self._open[number] = file
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].close()
        file.seek(at)
        return file.read(length)


def write(
    storage: Storage, files: Files, job: Job, prepared: Prepared, logs: Mapping[tuple[int, str], Log], folder: str
) -> dict[str, int | str | None]:
    """Writes both files, where they have a line. folder: of the logs. Returns the job's last fields; it blocks.

    Raises OSError.
    """
    index, plan = _Index(prepared.total), prepared.plan
    steps = plan.lines
    index.add(storage.local(f"jobs/{job.made.id}/{job.plan}.bad"), None, lambda step: step)
    for (block, token), log in sorted(logs.items()):
        if log.steps:
            index.add(storage.local_log(f"{folder}/{block}/{token}"), log.bytes, lambda step: int(steps[step]))
    cause = "batch_expired" if job.end == "expired" else "batch_cancelled"
    owner, ids = job.made.caller.lineage, file_ids(job.made.id)
    counts, made = [0, 0], [False, False]
    with ExitStack() as stack:
        read = _Open(index.paths, stack).read
        source = stack.enter_context(storage.local(f"jobs/{job.made.id}/input").open("rb"))
        writers: list[Callable[[bytes], None] | None] = [None, None]
        for line in range(prepared.total):
            if index.file[line] < 0:
                assert job.end != "completed", f"line {line} has no result"
                source.seek(int(prepared.offsets[line]))
                custom_id = custom_id_of(source.read(int(prepared.lengths[line])))
                number = int(prepared.numbers[line])
                content = error_line(job.made.id, line, custom_id, number, ApiError(cause, WHY[cause]))
            else:
                content = read(int(index.file[line]), int(index.at[line]), int(index.length[line]))
            which = 0 if index.is_ok[line] else 1
            writer = writers[which]
            if writer is None:
                name = f"{job.made.id}_{('output', 'error')[which]}.jsonl"
                writer = writers[which] = stack.enter_context(files.making(owner, ids[which], name, job.made.output_s))
                made[which] = True
            writer(content + b"\n")
            counts[which] += 1
    return {
        "completed": counts[0],
        "failed": counts[1],
        "output_file_id": ids[0] if made[0] else None,
        "error_file_id": ids[1] if made[1] else None,
    }
