"""From a batch's input to its plan: every line is read, checked and routed before the first one runs.

What is kept of a line is some thirty bytes in arrays, so a million lines are planned in a few tens of megabytes beside
the router. The plan lies in the storage, for all runners; so do the errors of the lines that cannot be run.
"""

import io
import json
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from orchestrator.batch import logs
from orchestrator.batch.lines import ENVELOPE, Line, Raw, UnreadableFile, checked, custom_id_of, digest, read, repeated
from orchestrator.batch.plan import BAD, Codes, Group, Lines, Plan, Team, make
from orchestrator.batch.storage import Storage, Upload
from orchestrator.errors import ApiError, from_exception, quote
from orchestrator.http.wire import Limits
from orchestrator.http.wire_coe import Names

CHUNK = 1024
"""Lines that are routed at a time."""


Decide = Callable[[Sequence[Line]], Sequence[Team | Exception]]
"""Who works on each of these lines; what would be raised for one is in its place. It blocks."""


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
    that families share."""

    limits: Limits
    lines: int
    block: int
    families: Mapping[str, str]


class Planner:
    """Plans one input. names: what its lines may name. pause: called after each chunk, with the seconds it took."""

    def __init__(
        self, endpoint: Any, names: Names, rules: Rules, decide: Decide, pause: Callable[[float], None] | None = None
    ) -> None:
        self._endpoint, self._names, self._rules, self._decide, self._pause = endpoint, names, rules, decide, pause
        self._offsets, self._lengths, self._numbers = array("q"), array("i"), array("i")
        self._digests, self._codes = array("Q"), array("i")
        self._teams: dict[Team, int] = {}
        self._waiting: list[tuple[int, Line]] = []

    def run(self, source: Path, errors: Upload, job_id: str, resident: Sequence[str] = ()) -> Prepared:
        """errors: gets a record for each line that cannot be run. Raises UnreadableFile, OSError."""
        most = self._rules.limits.body_bytes + ENVELOPE
        began = time.perf_counter()
        with source.open("rb") as file:
            for raw in read(file, most):
                at = len(self._codes)
                if at >= self._rules.lines:
                    text = f"the file has more than {self._rules.lines:,} lines, which is the limit; split it"
                    raise UnreadableFile(text)
                self._offsets.append(raw.offset)
                self._lengths.append(raw.length)
                self._numbers.append(raw.number)
                self._codes.append(BAD)
                self._digests.append(0)
                try:
                    line = checked(raw, self._endpoint, self._rules.limits, self._names)
                except ApiError as error:
                    _tell(errors, job_id, at, raw, error)
                    continue
                self._digests[at] = digest(line.custom_id)
                self._waiting.append((at, line))
                if len(self._waiting) == CHUNK:
                    self._route(errors, job_id)
                    if self._pause is not None:
                        self._pause(time.perf_counter() - began)
                    began = time.perf_counter()
            self._route(errors, job_id)
            if not len(self._codes):
                raise UnreadableFile("the file has no lines; a line is a JSON object, see docs/batch.md")
            codes = np.frombuffer(self._codes, np.int32).copy()
            self._twice(file, codes, errors, job_id)
        plan = make(codes, tuple(self._teams), self._rules.families, self._rules.block, resident)
        return Prepared(
            plan,
            tuple(self._teams),
            codes,
            np.frombuffer(self._offsets, np.int64),
            np.frombuffer(self._lengths, np.int32),
            np.frombuffer(self._numbers, np.int32),
        )

    def _route(self, errors: Upload, job_id: str) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        for (at, line), team in zip(waiting, self._decide([line for _, line in waiting]), strict=True):
            if isinstance(team, Exception):
                raw = Raw(self._numbers[at], 0, 0, None)
                _tell(errors, job_id, at, raw, from_exception(team), line.custom_id)
                self._digests[at] = 0
            else:
                self._codes[at] = self._teams.setdefault(team, len(self._teams))

    def _twice(self, file: Any, codes: Codes, errors: Upload, job_id: str) -> None:
        """Of lines with one id the first is run."""
        good = np.flatnonzero(codes != BAD)
        digests = np.frombuffer(self._digests, np.uint64)[good]
        again = repeated(digests)
        if not len(again):
            return
        order = np.argsort(digests, kind="stable")
        for position in again:
            at = int(good[position])
            before = int(good[order[np.searchsorted(digests[order], digests[position])]])
            custom_id, other = self._id(file, at), self._id(file, before)
            if custom_id != other:  # 64 bits were the same, by chance
                continue
            codes[at] = BAD
            raw = Raw(self._numbers[at], 0, 0, None)
            text = f"custom_id: {quote(custom_id)} stands in line {self._numbers[before]} already; ids must differ"
            _tell(errors, job_id, at, raw, ApiError("invalid_value", text, "custom_id"), custom_id)

    def _id(self, file: Any, at: int) -> str | None:
        file.seek(self._offsets[at])
        return custom_id_of(file.read(self._lengths[at]))


def _tell(errors: Upload, job_id: str, at: int, raw: Raw, error: ApiError, custom_id: str | None = None) -> None:
    if custom_id is None:
        custom_id = custom_id_of(raw.data)
    errors.write(logs.result(at, False, error_line(job_id, at, custom_id, raw.number, error)))


def error_line(job_id: str, at: int, custom_id: str | None, number: int, error: ApiError) -> bytes:
    """The line of the error file for a line that was not run."""
    told = error.body("")["error"] if error.row.status < 500 else {"message": error.message, "type": error.row.type,
                                                                    "param": None, "code": error.row.code}  # fmt: skip
    return orjson.dumps(
        {"id": line_id(job_id, at), "custom_id": custom_id, "response": None, "error": {**told, "line": number}}
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
