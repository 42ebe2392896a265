"""A block that a runner has a lease of: its steps, and the log that their results go to."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from orchestrator.batch.jobs import Jobs, Lease, Made
from orchestrator.batch.lines import Line
from orchestrator.batch.logs import Record, counted, records
from orchestrator.batch.plan import Group, Team
from orchestrator.batch.replays import Draft
from orchestrator.events import Routed
from orchestrator.store import StoreUnavailable

RETRY_S = 0.2
"""How long a commit waits for Redis before it is tried again."""
ROOM_S = 1.0
"""How long results wait for room on the disk before they are written again."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Step:
    """number: of the plan; at: its line, which `line` is once it was read. tries: those that came to nothing; deaths:
    of runners that ran it alone; hits, downs: of its engine, when it was under way beside others and alone.

    routed: who answers, None for a draft or the encoder; an exception is why nobody does. drafts: for what makes one
    answer of them.
    """

    number: int
    at: int
    team: Team
    request_id: str
    tries: int = 0
    deaths: int = 0
    hits: int = 0
    downs: int = 0
    line: Line = field(init=False)
    routed: Routed | Exception | None = None
    drafts: Mapping[str, Draft] = field(default_factory=dict)


class Block:
    """todo: steps that are still to be run; waits: of those that are to be left alone first, for how many seconds.
    is_alone: one at a time, each told before it begins: it cost leases before. is_stuck: nothing can be written.

    `ended` is set when the lease is over, however: all done, given back or lost.
    """

    def __init__(
        self,
        jobs: Jobs,
        lease: Lease,
        made: Made,
        group: Group,
        name: str,
        size: int,
        is_alone: bool,
        rate: Callable[[], float | None],
    ) -> None:
        """name: of its log. size: steps that need a record in it. rate: steps a second, when all are done."""
        self.lease, self.made, self.group, self.is_alone = lease, made, group, is_alone
        self.todo: deque[Step] = deque()
        self.waits: list[float] = []
        self.is_stuck = False
        self.running: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        self._jobs, self._name, self._size, self._rate = jobs, name, size, rate
        self._waiting: list[bytes] = []
        self._written: list[Record] = []
        self._pieces = self._bytes = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._write())
        if not size:
            self._news.set()

    def put(self, record: bytes) -> None:
        """Nobody waits for it."""
        self._waiting.append(record)
        self._news.set()

    async def stop(self, *, is_lost: bool = False, delay_s: float = 0.0, pause_s: float = 0.0, why: str = "") -> None:
        """Breaks off what runs, keeps what is done, and gives the lease back, see `Jobs.give_back`."""
        if self.ended.is_set():
            return
        self._end()
        if self._task is not asyncio.current_task():
            await self._task
            with suppress(OSError):
                await self._flush()
        with suppress(StoreUnavailable):
            await self._jobs.give_back(self.lease.token, is_lost=is_lost, delay_s=delay_s, pause_s=pause_s, why=why)

    def lost(self) -> None:
        """The lease is somebody else's by now: nothing of this counts any more."""
        if not self.ended.is_set():
            log.info("batch lease lost", batch=self.made.id, block=self.lease.block)
            self._end()

    def _end(self) -> None:
        """The task that writes is not cancelled: a piece that is on its way to the disk must be known of."""
        self.ended.set()
        self.todo.clear()
        for task in self.running - {asyncio.current_task()}:
            task.cancel()
        self._news.set()

    # The log

    async def _write(self) -> None:
        """What comes while a piece is written goes into the next one, so that pieces grow with the load."""
        while not self.ended.is_set():
            await self._news.wait()
            self._news.clear()
            try:
                status = await self._flush()
            except OSError as error:
                await self._wait_for_room(error)
                continue
            except Exception as error:
                log.exception("the results of a batch cannot be written", batch=self.made.id)
                await self.stop(is_lost=True, pause_s=5.0, why=f"results cannot be written: {type(error).__name__}")
                return
            self.is_stuck = False
            if status == "":
                self.lost()
            elif self._is_done:
                self._end()
            elif status != "in_progress":
                await self.stop()

    async def _wait_for_room(self, error: OSError) -> None:
        """On a full disk, as a rule: the lease is kept, what is done waits here, and nothing more is begun."""
        self._news.set()
        if not self.is_stuck:
            self.is_stuck = True
            log.error("the results of a batch cannot be written", batch=self.made.id, why=str(error))
        with suppress(StoreUnavailable):  # each time: what other blocks write takes it back
            why = f"results cannot be written, and wait: {error.strerror or error}"
            await self._jobs.tell(self.lease.token, why)
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_S):
                await self.ended.wait()

    @property
    def _is_done(self) -> bool:
        return sum(record.is_end for record in self._written) >= self._size

    async def _flush(self) -> str:
        """Writes what waits, then commits it. Returns the job's status. Raises OSError."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            try:
                await asyncio.to_thread(self._jobs.storage.append, self._name, self._pieces, self._bytes, data)
            except OSError:
                self._waiting.insert(0, data)
                raise
            self._written.extend(records(data))
            self._pieces, self._bytes = self._pieces + 1, self._bytes + len(data)
        known = counted(self._written, self._bytes)
        rate = self._rate() if self._is_done else None
        while True:
            try:
                return await self._jobs.commit(self.lease.token, known, rate, is_done=self._is_done)
            except StoreUnavailable:
                # It is on disk: whoever has the block next finds it, if the lease ends meanwhile.
                if self.ended.is_set():
                    return ""
                await asyncio.sleep(RETRY_S)
