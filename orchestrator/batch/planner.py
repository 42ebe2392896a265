"""From a batch's input to its plan: every line is read, checked and routed before the first one runs.

The input is planned in pieces (`pieces`), here or by other processes (`apart`), and put together in order: one plan,
however many planned it. What is kept of a line is some thirty bytes in arrays, so a million lines are planned in a few
tens of megabytes beside the router. The plan lies in the storage, for all runners; so do the errors of the lines that
cannot be run.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from orchestrator.batch import logs
from orchestrator.batch.lines import UnreadableFile, custom_id_of, repeated
from orchestrator.batch.pieces import Job, Part, Parts, cut, faults_of, told
from orchestrator.batch.plan import BAD, Codes, Group, Lines, Plan, Team, make
from orchestrator.batch.storage import Storage, Upload
from orchestrator.errors import ApiError, quote
from orchestrator.http.wire import Limits

PIECE = 2 << 20
TOGETHER = 1000
"""Records that are written at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A plan with what is known of the lines.

    offsets, lengths, numbers: (N,) where a line is in the input, and which it is; codes: (N,) its team, or BAD.
    """

    plan: Plan
    teams: tuple[Team, ...]
    codes: Codes
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    lengths: Lines
    numbers: Lines

    @property
    def bad(self) -> int:
        return int((self.codes == BAD).sum())

    @property
    def total(self) -> int:
        return len(self.codes)

    def facts(self) -> dict[str, Any]:
        """What the job tells of it."""
        return {"total": self.total, "failed": self.bad}


@dataclass(frozen=True, slots=True)
class Rules:
    """lines: the most of a batch. block: lines that a runner takes at a time. families: expert -> family, or the device
    that families share. piece: bytes of the input that are planned at a time. processes: that plan them."""

    limits: Limits
    lines: int
    block: int
    families: Mapping[str, str]
    piece: int = PIECE
    processes: int = 1


class Planner:
    """Plans one input, which `job` describes.

    parts: what plans its pieces, in their order, by itself or elsewhere.
    """

    def __init__(self, job: Job, rules: Rules, parts: Parts) -> None:
        self._job, self._rules, self._parts = job, rules, parts

    def run(self, errors: Upload, job_id: str, resident: Sequence[str] = ()) -> Prepared:
        """errors: gets a record for each line that cannot be run. Raises UnreadableFile, OSError."""
        teams: dict[Team, int] = {}
        found: list[Part] = []
        at = number = 0
        for part in self._parts(self._job, cut(self._job.source, self._rules.piece)):
            if at + len(part.codes) > self._rules.lines:
                text = f"the file has more than {self._rules.lines:,} lines, which is the limit; split it"
                raise UnreadableFile(text)
            errors.write(b"".join(_bad(job_id, at, number, part)))
            # A code of BAD, -1, takes the last place.
            codes = np.array([*(teams.setdefault(team, len(teams)) for team in part.teams), BAD], np.int32)
            found.append(replace(part, numbers=part.numbers + number, codes=codes[part.codes], faults=b""))
            at, number = at + len(part.codes), number + part.counted
        if not at:
            raise UnreadableFile("the file has no lines; a line is a JSON object, see docs/batch.md")
        offsets = np.concatenate([part.offsets for part in found])
        lengths = np.concatenate([part.lengths for part in found])
        numbers = np.concatenate([part.numbers for part in found])
        digests = np.concatenate([part.digests for part in found])
        codes = np.concatenate([part.codes for part in found])
        del found
        ids = _Ids(self._job.source, offsets, lengths)
        self._twice(ids, digests, codes, numbers, errors, job_id)
        plan = make(codes, tuple(teams), self._rules.families, self._rules.block, resident)
        return Prepared(plan, tuple(teams), codes, offsets, lengths, numbers)

    def _twice(
        self, ids: "_Ids", digests: NDArray[np.uint64], codes: Codes, numbers: Lines, errors: Upload, job_id: str
    ) -> None:
        """Of lines with one id the first is run."""
        good = np.flatnonzero(codes != BAD)
        again, first = repeated(digests[good])
        if not len(again):
            return
        records: list[bytes] = []
        with ids:
            for at, before in zip(good[again].tolist(), good[first].tolist(), strict=True):
                custom_id = ids.of(at)
                if custom_id != ids.of(before):  # 64 bits were the same, by chance
                    continue
                codes[at] = BAD
                text = f"custom_id: {quote(custom_id)} stands in line {numbers[before]} already; ids must differ"
                error = told(ApiError("invalid_value", text, "custom_id"))
                records.append(_record(job_id, at, custom_id, int(numbers[at]), error))
                if len(records) == TOGETHER:
                    errors.write(b"".join(records))
                    records.clear()
        errors.write(b"".join(records))


class _Ids:
    """The ids of lines, read from the input again."""

    def __init__(self, source: Path, offsets: NDArray[np.int64], lengths: Lines) -> None:
        self._source, self._offsets, self._lengths = source, offsets, lengths

    def __enter__(self) -> Self:
        self._file = self._source.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def of(self, at: int) -> str | None:
        self._file.seek(int(self._offsets[at]))
        return custom_id_of(self._file.read(int(self._lengths[at])))


def _bad(job_id: str, at: int, number: int, part: Part) -> Iterator[bytes]:
    """at, number: lines before the part that are not blank, and all lines before it."""
    for own, custom_id, error in faults_of(part):
        yield _record(job_id, at + own, custom_id, number + int(part.numbers[own]), error)


def _record(job_id: str, at: int, custom_id: str | None, number: int, error: Mapping[str, Any]) -> bytes:
    return logs.result(at, False, _error_line(job_id, at, custom_id, number, error))


def error_line(job_id: str, at: int, custom_id: str | None, number: int, error: ApiError) -> bytes:
    """The line of the error file for a line that was not run."""
    return _error_line(job_id, at, custom_id, number, told(error))


def _error_line(job_id: str, at: int, custom_id: str | None, number: int, error: Mapping[str, Any]) -> bytes:
    return orjson.dumps(
        {"id": line_id(job_id, at), "custom_id": custom_id, "response": None, "error": {**error, "line": number}}
    )


def line_id(job_id: str, at: int) -> str:
    return f"batch_req_{job_id.removeprefix('batch_')}{at:08x}"


# In the storage


def save(storage: Storage, name: str, prepared: Prepared) -> None:
    facts = {
        "groups": [asdict(group) for group in prepared.plan.groups],
        "teams": [asdict(team) for team in prepared.teams],
        "size": prepared.plan.size,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
        steps=prepared.plan.lines,
        codes=prepared.codes,
        offsets=prepared.offsets,
        lengths=prepared.lengths,
        numbers=prepared.numbers,
    )
    storage.write(name, buffer.getvalue())


def load(storage: Storage, name: str) -> Prepared:
    """Raises FileNotFoundError."""
    with np.load(io.BytesIO(storage.read(name)), allow_pickle=False) as found:
        facts = json.loads(found["facts"].tobytes())
        groups = tuple(Group(**group) for group in facts["groups"])
        teams = tuple(Team(tuple(team["experts"]), team["writer"]) for team in facts["teams"])
        plan = Plan(groups, found["steps"], facts["size"])
        return Prepared(plan, teams, found["codes"], found["offsets"], found["lengths"], found["numbers"])
