"""Batch jobs: what is known of them, who works on them, and what of their output counts.

**Redis coordinates, the storage remembers.** A job is `jobs/<id>/job.json`, written before Redis hears of it; its plan
and its results are logs beside that. Redis has who works on what, and how much of each log counts. So
whatever is killed:

* a runner: what it had written lies in its logs, and its leases end by Redis' clock. Whoever takes such a block next
  reads the logs of the block, takes over all that is whole, and runs only the rest.
* Redis: what it forgot of its last second (its append-only file is synced once a second) is a lease or a commit; the
  logs still have the results, and the next runner of the block takes them over. A job that it forgot altogether is made
  anew from job.json, its blocks are found to be done.
* the gateway: is a runner, and nothing else.

**Each line's output is written exactly once.** A block belongs to one lease at a time. Its holder appends results to a
log of its own, named by the lease's token, and then *commits* the log's length: the script takes it only while that
lease lives (a fencing token). What counts of a log is what was committed of it, and a holder that takes over copies
what it finds uncommitted into its own log. So the committed parts of all logs hold each step once, however often
runners die or come back late; the output is made of these alone, in the order of the input, and made anew from the
start when that is interrupted. Per-line entries in Redis would say the same at a hundred bytes a line; this takes some
forty a block.

Status: validating -> in_progress -> finalizing -> completed | expired; validating | in_progress -> cancelling ->
cancelled; failed where the input, or the machine, does not let it run at all.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Literal

from orchestrator.access.grant import Grant
from orchestrator.batch import scripts
from orchestrator.batch.lines import Endpoint
from orchestrator.batch.plan import Group
from orchestrator.batch.storage import Storage
from orchestrator.store import Store, StoreUnavailable

LIVE = ("validating", "in_progress", "finalizing", "cancelling")
ENDS = ("completed", "failed", "expired", "cancelled")
End = Literal["completed", "failed", "expired", "cancelled"]
WINDOW_S = 24 * 3600
TIMES = ("in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled")
"""Statuses whose beginning is kept, as <status>_ms."""


class UnknownJob(LookupError):
    """There is no job of this id, or it is somebody else's."""


class TooManyJobs(Exception):
    """The owner has as many jobs under way as are allowed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose job it is: lineage and name of the key, and what it might do when the job was made."""

    lineage: str
    name: str
    grant: Grant

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> "Caller":
        return cls(data["lineage"], data["name"], Grant.stored(data["grant"]))


@dataclass(frozen=True, slots=True)
class Made:
    """What a job was made with, and never changes. created_ms: Unix time. plan_only: it ends when it is planned.
    output_s: seconds after which the files end that it makes; None = they stay."""

    id: str
    caller: Caller
    endpoint: Endpoint
    input_file_id: str
    created_ms: int
    expires_ms: int
    metadata: dict[str, str] | None = None
    plan_only: bool = False
    output_s: int | None = None

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> "Made":
        return cls(**{**data, "caller": Caller.stored(data["caller"])})


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of answers. cached: of the input, those that were not computed anew."""

    input: int = 0
    cached: int = 0
    output: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input + other.input, self.cached + other.cached, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Job:
    """What is known now.

    end: how it will end, once that is decided. times: status -> when it began, Unix time in ms. total, completed,
    failed: lines. tokens: of those completed. groups, done: the plan, and of each group the steps that are done. plan:
    its name in the storage. problems: why it failed, or does not go on.
    """

    made: Made
    status: str
    end: str | None = None
    times: dict[str, int] = field(default_factory=dict)
    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()
    groups: tuple[Group, ...] = ()
    done: tuple[int, ...] = ()
    plan: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    problems: tuple[dict[str, Any], ...] = ()

    @property
    def is_live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class Task:
    """A lease to plan or to finish a job. tries: how often in a row that was begun and not ended, this one included;
    faults: how often whoever did it told of one."""

    token: str
    job: str
    kind: Literal["plan", "finish"]
    tries: int
    faults: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease of a block. lost: leases of it in a row that ended without anything done."""

    token: str
    job: str
    block: int
    expert: str
    lost: int


@dataclass(frozen=True, slots=True)
class Log:
    """What counts of a log: its bytes, the steps in them, of these the lines completed and failed, and their tokens."""

    bytes: int = 0
    steps: int = 0
    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()


class Jobs:
    """Every method raises StoreUnavailable; those that touch the storage block for as long as a small file takes.

    lease_s: seconds that a lease lives on without a sign of its holder. per_owner: jobs of a key under way; None = any.
    """

    def __init__(self, store: Store, storage: Storage, *, lease_s: float = 30.0, per_owner: int | None = None) -> None:
        self._store, self.storage = store, storage
        self.lease_s, self._per_owner = lease_s, -1 if per_owner is None else per_owner
        self._unanswered: dict[str, str] = {}

    # What callers do

    async def create(self, caller: Caller, endpoint: Endpoint, input_file_id: str, input_name: str, **more: Any) -> Job:
        """A job on a file of the storage. Raises TooManyJobs, and OSError: FileNotFoundError for an input that has
        gone."""
        now = int(time.time() * 1000)
        window = int(more.pop("window_s", WINDOW_S) * 1000)
        made = Made(f"batch_{uuid.uuid4().hex}", caller, endpoint, input_file_id, now, now + window, **more)
        try:
            self.storage.copy(input_name, f"jobs/{made.id}/input")
            self._write(Job(made, "validating"))
        except OSError:
            self.storage.remove(f"jobs/{made.id}")
            raise
        if await self._register(Job(made, "validating"), self._per_owner) < 0:
            self.storage.remove(f"jobs/{made.id}")
            text = f"{self._per_owner} batches of this API key are under way, which is the limit; wait for one to end"
            raise TooManyJobs(text)
        return await self.get(made.id)

    async def get(self, job_id: str, owner: str | None = None) -> Job:
        """owner: whose it must be; None = anybody's. Raises UnknownJob."""
        if not _is_id(job_id):
            raise UnknownJob(job_id)
        fields = _pairs(await self._run(scripts.READ, job_id))
        job = _job(fields) if fields else None
        if job is None and (job := self.remembered(job_id)) is not None:
            await self._register(job)
        if job is None or owner not in (None, job.made.caller.lineage):
            raise UnknownJob(job_id)
        return job

    async def newest(self, owner: str | None, most: int, after: str = "") -> list[Job]:
        """The newest first, behind the one of the id `after`. owner: None = of everybody."""
        names = await self._run(scripts.LIST, "all" if owner is None else f"of:{owner}", most, after)
        return [await self.get(name) for name in names]

    async def cancel(self, job_id: str) -> Job:
        """What is under way is broken off; what is done is kept. Does nothing to a job that is at its end."""
        if not self.storage.exists(f"jobs/{job_id}/job.json"):
            raise UnknownJob(job_id)
        with suppress(OSError):  # on a full disk too; then a Redis that forgets it makes the job go on
            self.storage.write(f"jobs/{job_id}/cancel", b"")
        await self._run(scripts.CANCEL, job_id)
        return await self.get(job_id)

    # What runners do

    async def live(self) -> list[str]:
        found: list[str] = await self._run(scripts.LIVE)
        return found

    async def restore(self) -> None:
        """Tells Redis of the jobs that the storage has and it does not, and of what it forgot of them."""
        live = set(await self.live())
        for job_id in self.storage.names("jobs"):
            if not _is_id(job_id) or not self.storage.exists(f"jobs/{job_id}/job.json"):
                continue
            job = await self.get(job_id)
            remembered = self.remembered(job_id)
            if job_id in live and remembered is not None and not remembered.is_live:
                await self.end(remembered, "")
            elif job.is_live and self.storage.exists(f"jobs/{job_id}/cancel"):
                await self._run(scripts.CANCEL, job_id)

    def remembered(self, job_id: str) -> Job | None:
        """The job as the storage has it: as it was made, or at its end."""
        try:
            data = json.loads(self.storage.read(f"jobs/{job_id}/job.json"))
        except FileNotFoundError:
            return None
        return _job(data)

    async def take_job(self) -> Task | None:
        """A job that is to be planned or finished, for this caller alone while it renews the lease."""
        token, found = await self._taken("job", scripts.TAKE_JOB)
        return Task(token, found[0], found[1], int(found[2]), int(found[3] or 0)) if found else None

    async def take_block(self, family: str, experts: int, loaded: Sequence[str]) -> Lease | None:
        """A block of the family. Not more than `experts` of its experts are worked on at a time, by all runners
        together. loaded: those that the engine has."""
        token, found = await self._taken(f"block of {family}", scripts.TAKE_BLOCK, family, experts, *loaded)
        return Lease(token, found[0], int(found[2]), found[3], int(found[4])) if found else None

    def put_off(self, lease: Lease, family: str) -> None:
        """Redis went away before the block was begun: who takes one next gets this one, while the lease lives."""
        self._unanswered[f"block of {family}"] = lease.token

    async def _taken(self, what: str, script: str, *args: str | int) -> tuple[str, Any]:
        """(token, answer). Where none comes, a lease may have begun: the next one asks again with the same token."""
        token = self._unanswered.pop(what, None) or uuid.uuid4().hex
        try:
            return token, await self._run(script, token, self._lease_ms, *args)
        except StoreUnavailable:
            self._unanswered[what] = token
            raise

    async def renew(self, tokens: Sequence[str]) -> list[str]:
        """For each lease the status of its job, "" for one that has ended."""
        found: list[str] = await self._run(scripts.RENEW, *tokens)
        return found

    async def give_back(
        self,
        token: str,
        *,
        is_lost: bool = False,
        delay_s: float = 0.0,
        pause_s: float = 0.0,
        is_fault: bool = False,
        why: str = "",
    ) -> None:
        """Ends a lease before its time. delay_s: seconds for which nobody takes the block. pause_s: those for which
        nobody takes anything of the job, and why. is_fault: the job may fail of it."""
        delays = int(delay_s * 1000), int(pause_s * 1000)
        problems = json.dumps([problem(why)]) if why else ""
        await self._run(scripts.GIVE_BACK, token, int(is_lost), *delays, int(is_fault), problems)

    async def tell(self, token: str, why: str) -> None:
        """Why the job of this lease does not go on; what is done next of it takes that back."""
        await self._run(scripts.TELL, token, json.dumps([problem(why)]))

    async def planned(self, token: str, fields: Mapping[str, Any], groups: Sequence[Group], end: str = "") -> str:
        """The job is planned. fields: of Job. end: what becomes of it where there is nothing to run.

        Returns its status, "" if the lease had ended.
        """
        left = [sum(group.blocks for group in groups if group.stage == stage) for stage in (1, 2)]
        written = [[g.stage, g.family, g.expert, g.block, g.blocks, g.step, g.steps] for g in groups]
        every = {**fields, "groups": json.dumps(written), "left1": left[0], "left2": left[1]}
        status: str = await self._run(scripts.PLANNED, token, end, *_flat(every))
        return status

    async def logs(self, job_id: str, block: int, tokens: Sequence[str]) -> list[Log]:
        """What counts of each of these logs of a block."""
        if not tokens:
            return []
        found = await self._run(scripts.PARTS, job_id, *(f"{block}:{token}" for token in tokens))
        return [_log(known) for known in found]

    async def all_logs(self, job_id: str) -> dict[tuple[int, str], Log]:
        """(block, token) -> what counts of it."""
        found = _pairs(await self._run(scripts.ALL_PARTS, job_id))
        return {(int(name.split(":")[0]), name.split(":")[1]): _log(known) for name, known in found.items()}

    async def commit(self, token: str, log: Log, rate: float | None = None, *, is_done: bool = False) -> str:
        """What is in the lease's log so far. rate: steps a second of a whole block. Returns the job's status, "" if the
        lease has ended: then nothing of it counts that did not before."""
        known = [log.bytes, log.steps, log.completed, log.failed, *astuple(log.tokens)]
        status: str = await self._run(scripts.COMMIT, token, int(is_done), "" if rate is None else rate, *known)
        return status

    async def end(self, job: Job, token: str) -> bool:
        """The job is at its end; False if the lease had ended. The storage knows it first."""
        if token:
            self._write(job)
        fields = {name: value for name, value in _fields(job).items() if value != ""}
        return bool(await self._run(scripts.FINISHED, job.made.id, token, *_flat(fields)))

    async def states(self) -> Counter[str]:
        """Status -> jobs that have it now, of those that are not at their end."""
        return Counter(await self._run(scripts.STATES))

    async def rates(self) -> dict[str, float]:
        """Expert -> steps a second, as far as they were measured."""
        return {expert: float(rate) for expert, rate in _pairs(await self._run(scripts.RATES)).items()}

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_s * 1000)

    def _write(self, job: Job) -> None:
        self.storage.write(f"jobs/{job.made.id}/job.json", json.dumps(_fields(job)).encode())

    async def _register(self, job: Job, most: int = -1) -> int:
        made: int = await self._run(scripts.CREATE, job.made.id, job.made.caller.lineage, most, *_flat(_fields(job)))
        return made

    async def _run(self, script: str, *args: str | int | float) -> Any:
        return await self._store.run(script, [scripts.PREFIX], list(args))


def problem(message: str, code: str = "storage_full") -> dict[str, Any]:
    """One of a job's problems, as OpenAI writes them."""
    return {"code": code, "message": message, "line": None, "param": None}


def _is_id(job_id: str) -> bool:
    prefix, _, rest = job_id.partition("_")
    return prefix == "batch" and len(rest) == 32 and rest.isalnum() and rest.isascii()


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _log(known: str | None) -> Log:
    if not known:
        return Log()
    size, steps, completed, failed, *tokens = map(int, known.split())
    return Log(size, steps, completed, failed, Tokens(*tokens))


def _fields(job: Job) -> dict[str, Any]:
    """As Redis keeps it, and the storage."""
    made = asdict(job.made)
    return {
        "made": json.dumps(made),
        "owner": job.made.caller.lineage,
        "created_ms": job.made.created_ms,
        "expires_ms": job.made.expires_ms,
        "status": job.status,
        "end": job.end or "",
        "total": job.total,
        "completed": job.completed,
        "failed": job.failed,
        **{f"{kind}_tokens": count for kind, count in asdict(job.tokens).items()},
        "output_file_id": job.output_file_id or "",
        "error_file_id": job.error_file_id or "",
        "problems": json.dumps(job.problems),
        **{f"{status}_ms": at for status, at in job.times.items()},
        **({"plan": job.plan} if job.plan else {}),
        **({"groups": json.dumps([list(asdict(group).values()) for group in job.groups])} if job.groups else {}),
        **{f"done:{number}": done for number, done in enumerate(job.done, 1)},
    }


def _job(fields: Mapping[str, Any]) -> Job:
    groups = tuple(Group(*row) for row in json.loads(fields.get("groups") or "[]"))
    return Job(
        made=Made.stored(json.loads(fields["made"])),
        status=fields["status"],
        end=fields.get("end") or None,
        times={status: int(fields[f"{status}_ms"]) for status in TIMES if f"{status}_ms" in fields},
        total=int(fields.get("total", 0)),
        completed=int(fields.get("completed", 0)),
        failed=int(fields.get("failed", 0)),
        tokens=Tokens(**{kind: int(fields.get(f"{kind}_tokens", 0)) for kind in ("input", "cached", "output")}),
        groups=groups,
        done=tuple(int(fields.get(f"done:{number}", 0)) for number in range(1, len(groups) + 1)),
        plan=fields.get("plan") or None,
        output_file_id=fields.get("output_file_id") or None,
        error_file_id=fields.get("error_file_id") or None,
        problems=tuple(json.loads(fields.get("problems") or "[]")),
    )
