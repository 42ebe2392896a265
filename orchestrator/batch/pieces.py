"""A batch's input in pieces, each of which is planned by itself: read, checked and routed.

A piece ends where a line does. What is found of it depends on its bytes alone, not on the process that plans it or on
what comes before it; `planner` puts pieces together. Pickled, a part is a few arrays, which cost whoever gets them no
time, and thirty bytes a line.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from orchestrator.batch.lines import ENVELOPE, Endpoint, Line, Raw, checked, custom_id_of, digest, read
from orchestrator.batch.plan import BAD, Codes, Lines, Team
from orchestrator.errors import ApiError, from_exception
from orchestrator.http.wire import Limits
from orchestrator.http.wire_coe import Names

CHUNK = 1024
"""Lines that are routed at a time."""

Decide = Callable[[Sequence[Line]], Sequence[Team | Exception]]
"""Who works on each of these lines; what would be raised for one is in its place. It blocks."""
Pause = Callable[[], None]
"""Called now and then by what takes long. What it raises ends that."""


@dataclass(frozen=True, slots=True)
class Job:
    """What pieces are planned for. names: what lines may name."""

    source: Path
    endpoint: Endpoint
    limits: Limits
    names: Names
    decide: Decide


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the input: from a line's beginning to a line's end."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece that is planned. N: its lines that are not blank.

    offsets, lengths: (N,) where a line is in the input. numbers: (N,) which line of the piece it is, from 1; counted:
    how many there are. digests: (N,) of the ids. codes: (N,) its place in `teams`, or BAD. faults: see `faults_of`.
    """

    offsets: NDArray[np.int64]
    lengths: Lines
    numbers: Lines
    digests: NDArray[np.uint64]
    codes: Codes
    teams: tuple[Team, ...]
    faults: bytes
    counted: int


Parts = Callable[[Job, Iterable[Piece]], Iterator[Part]]
"""Plans pieces, in their order."""


def cut(source: Path, size: int) -> Iterator[Piece]:
    """Pieces of about so many bytes, one after the other, that hold all of the file."""
    with source.open("rb") as file:
        start, whole = 0, source.stat().st_size
        while start < whole:
            file.seek(start + size - 1)
            while (end := file.readline(1 << 20)) and not end.endswith(b"\n"):
                pass
            end_at = min(file.tell(), whole)
            yield Piece(start, end_at)
            start = end_at


def plan_piece(job: Job, piece: Piece, pause: Pause) -> Part:
    """pause: called after each chunk. Raises UnreadableFile, OSError."""
    work = _Work(job)
    with job.source.open("rb") as file:
        for raw in read(file, job.limits.body_bytes + ENVELOPE, piece.start, piece.end):
            work.add(raw)
            if len(work.waiting) == CHUNK:
                work.route()
                pause()
        work.route()
        pause()
        return work.part(_ends(file, piece))


class _Work:
    def __init__(self, job: Job) -> None:
        self._job = job
        self.waiting: list[tuple[int, Line]] = []
        self._offsets, self._lengths, self._numbers = array("q"), array("i"), array("i")
        self._digests, self._codes = array("Q"), array("i")
        self._teams: dict[Team, int] = {}
        self._faults: list[tuple[int, bytes]] = []

    def add(self, raw: Raw) -> None:
        job, at = self._job, len(self._codes)
        self._offsets.append(raw.offset)
        self._lengths.append(raw.length)
        self._numbers.append(raw.number)
        self._codes.append(BAD)
        try:
            line = checked(raw, job.endpoint, job.limits, job.names)
        except ApiError as error:
            self._digests.append(0)
            self._fault(at, custom_id_of(raw.data), error)
        else:
            self._digests.append(digest(line.custom_id))
            self.waiting.append((at, line))

    def route(self) -> None:
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        for (at, line), team in zip(waiting, self._job.decide([line for _, line in waiting]), strict=True):
            if isinstance(team, Exception):
                self._fault(at, line.custom_id, from_exception(team))
            else:
                self._codes[at] = self._teams.setdefault(team, len(self._teams))

    def part(self, counted: int) -> Part:
        self._faults.sort()
        return Part(
            np.frombuffer(self._offsets, np.int64),
            np.frombuffer(self._lengths, np.int32),
            np.frombuffer(self._numbers, np.int32),
            np.frombuffer(self._digests, np.uint64),
            np.frombuffer(self._codes, np.int32),
            tuple(self._teams),
            b"".join(fault for _, fault in self._faults),
            counted,
        )

    def _fault(self, at: int, custom_id: str | None, error: ApiError) -> None:
        self._faults.append((at, orjson.dumps([at, custom_id, told(error)]) + b"\n"))


def faults_of(part: Part) -> Iterator[tuple[int, str | None, dict[str, Any]]]:
    """(which line of the part cannot be run, its id as far as that is known, what is told of it), in their order."""
    for fault in part.faults.splitlines():
        at, custom_id, own = orjson.loads(fault)
        yield at, custom_id, own


def told(error: ApiError) -> dict[str, Any]:
    """What the error file tells of an error, but for the line's number."""
    if error.row.status < 500:
        own: dict[str, Any] = error.body("")["error"]
        return own
    return {"message": error.message, "type": error.row.type, "param": None, "code": error.row.code}


def _ends(file: BinaryIO, piece: Piece) -> int:
    """Ends of lines in it."""
    file.seek(piece.start)
    left, found = piece.end - piece.start, 0
    while left and (data := file.read(min(left, 1 << 20))):
        found += data.count(b"\n")
        left -= len(data)
    return found
