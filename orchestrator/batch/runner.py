"""What works on batches: it plans them, runs their blocks expert by expert, and writes what they end with.

Any number of runners share the work through `Jobs`; each gateway has one. A runner has a loop for each family, which
keeps as many lines under way as the engine runs in one batch. It takes blocks of one expert as long as there are any,
from whichever job, and turns to the next expert when the last line of that one is done: so each is loaded once.

Lines have the lowest priority, and while other requests are under way, fewer of them are (`Settings.beside`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from orchestrator.batch import logs, pieces
from orchestrator.batch.apart import Apart, Here, Watch
from orchestrator.batch.block import Block, Step
from orchestrator.batch.files import Files
from orchestrator.batch.jobs import Job, Jobs, Lease, Task, problem
from orchestrator.batch.lines import UnreadableFile
from orchestrator.batch.opening import Opener, folder_of
from orchestrator.batch.output import write
from orchestrator.batch.plan import NOBODY
from orchestrator.batch.planner import Planner, Prepared, Rules, load, save
from orchestrator.batch.work import Again, Work, failed_line
from orchestrator.errors import ApiError, from_exception
from orchestrator.events import AUTO
from orchestrator.store import StoreUnavailable
from workers.base import WorkerStats

FAULTS, BEGUN = 5, 25
"""Planning or finishing a job was begun so often that it has failed: where a fault is known, and in any case."""
DEATHS = 10
"""Runners that may go down while they run a line alone; then it has failed."""
PAUSE_S = 10.0

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """in_flight: family -> lines under way at a time. experts: family -> experts at a time, one a replica. beside: the
    share of in_flight while other requests are under way. tries: of a line. poll_s: how often work is looked for."""

    in_flight: Mapping[str, int]
    experts: Mapping[str, int]
    beside: float = 0.25
    tries: int = 3
    poll_s: float = 0.5


class Runner:
    """stats: what the workers say. online: requests under way that are of no batch. may_go_on: does a key of this
    lineage still work?"""

    def __init__(
        self,
        jobs: Jobs,
        files: Files,
        work: Work,
        rules: Rules,
        settings: Settings,
        stats: Callable[[], Awaitable[Mapping[str, WorkerStats | str]]],
        online: Callable[[], int],
        may_go_on: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._jobs, self._files, self._work, self._rules, self._settings = jobs, files, work, rules, settings
        self._stats, self._online, self._may_go_on = stats, online, may_go_on
        self._blocks: dict[str, Block] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opener = Opener(jobs, work)
        self._done_at: dict[str, float] = {}
        self._must_restore = True
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled; then what is under way is given back, and what is done is kept."""
        families = {NOBODY, *self._rules.families.values()}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew())
                group.create_task(self._plan_and_finish())
                for family in families:
                    group.create_task(self._drain(family))
        finally:
            await asyncio.gather(*(block.stop() for block in list(self._blocks.values())))

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_s):
                await self._wake.wait()
        self._wake.clear()

    def _away(self, error: StoreUnavailable) -> None:
        if not self._must_restore:
            log.warning("batches wait for Redis", why=str(error))
        self._must_restore = True

    async def _renew(self) -> None:
        """Keeps the leases. One that has ended, or whose job has, is let go."""
        while True:
            await asyncio.sleep(self._jobs.lease_s / 3)
            tokens = [*self._blocks, *self._tasks]
            if not tokens:
                continue
            try:
                statuses = await self._jobs.renew(tokens)
            except StoreUnavailable as error:
                self._away(error)
                continue
            for token, status in zip(tokens, statuses, strict=True):
                if (block := self._blocks.get(token)) is not None:
                    if status == "":
                        block.lost()
                    elif status != "in_progress":
                        await block.stop()
                elif status == "" and (task := self._tasks.get(token)) is not None:
                    task.cancel()

    # Planning and finishing

    async def _plan_and_finish(self) -> None:
        while True:
            try:
                if self._must_restore:
                    await self._jobs.restore()
                    self._must_restore = False
                task = await self._jobs.take_job()
            except StoreUnavailable as error:
                self._away(error)
                task = None
            if task is None:
                await self._pause()
                continue
            own = self._tasks[task.token] = asyncio.create_task(self._do(task))
            try:
                await asyncio.wait([own])
                if not own.cancelled() and (failure := own.exception()):
                    self._away(StoreUnavailable(str(failure)))
            finally:
                del self._tasks[task.token]
                if not own.done():
                    own.cancel()
                    await asyncio.gather(own, return_exceptions=True)
            self.wake()

    async def _do(self, task: Task) -> None:
        job = await self._jobs.get(task.job)
        try:
            remembered = await asyncio.to_thread(self._jobs.remembered, task.job)
            if remembered is not None and not remembered.is_live:  # Redis forgot its end
                await self._jobs.end(remembered, "")
                await self._jobs.give_back(task.token)
            elif task.tries > (FAULTS if job.problems else BEGUN):
                why = "; ".join(own["message"] for own in job.problems) or "whoever tried it went down"
                text = f"{task.kind} was tried {task.tries - 1} times: {why}"
                await self._end(job, task, "failed", problems=(problem(text, "internal_error"),))
            elif task.kind == "plan":
                await self._plan(job, task)
            else:
                await self._finish(job, task)
        except StoreUnavailable as error:
            self._away(error)
        except UnreadableFile as error:
            await self._end(job, task, "failed", problems=(problem(str(error), "invalid_file"),))
        except Exception as error:
            log.exception("batch failed", batch=task.job, step=task.kind)
            told = f"{error.strerror or error}" if isinstance(error, OSError) else type(error).__name__
            with suppress(StoreUnavailable):
                await self._jobs.give_back(task.token, pause_s=PAUSE_S, why=told)

    async def _end(self, job: Job, task: Task, status: str, **fields: object) -> bool:
        times = {**job.times, status: int(time.time() * 1000)}
        ended = await self._jobs.end(replace(job, status=status, times=times, **fields), task.token)  # type: ignore[arg-type]
        if ended:
            await asyncio.to_thread(self._tidy, job)
        return ended

    def _tidy(self, job: Job) -> None:
        """What a job at its end needs no more."""
        self._opener.forget(job.made.id)
        for name in self._jobs.storage.names(f"jobs/{job.made.id}"):
            if name != "job.json":
                self._jobs.storage.remove(f"jobs/{job.made.id}/{name}")

    async def _plan(self, job: Job, task: Task) -> None:
        loaded = await self._loaded()
        watch = Watch(self._online)
        try:
            name, prepared = await asyncio.to_thread(self._prepared, job, task.token, loaded, watch)
        finally:
            watch.stop()
        fields = {"plan": name, **prepared.facts()}
        end = "completed" if job.made.plan_only or not prepared.plan.groups else ""
        await self._jobs.planned(task.token, fields, prepared.plan.groups, end)

    def _prepared(self, job: Job, token: str, loaded: list[str], watch: Watch) -> tuple[str, Prepared]:
        """The plan's name, and the plan: one that is there already, for results in logs are of its steps."""
        storage, folder = self._jobs.storage, f"jobs/{job.made.id}"
        for name in storage.names(folder):
            if name.endswith(".plan"):
                return name.removesuffix(".plan"), load(storage, f"{folder}/{name}")
        caller = job.made.caller
        names, teams = self._work.names(caller.grant), self._work.teams(caller)
        what = pieces.Job(storage.local(f"{folder}/input"), job.made.endpoint, self._rules.limits, names, teams)
        planner = Planner(what, self._rules, Apart(self._rules.processes, watch, Here(watch)))
        with storage.upload(f"{folder}/{token}.bad") as errors:
            prepared = planner.run(errors, job.made.id, loaded)
            errors.commit()
        save(storage, f"{folder}/{token}.plan", prepared)
        return token, prepared

    async def _finish(self, job: Job, task: Task) -> None:
        end = job.end or "completed"
        if job.plan is None or job.made.plan_only:
            await self._end(job, task, end)
            return
        prepared = await asyncio.to_thread(load, self._jobs.storage, f"jobs/{job.made.id}/{job.plan}.plan")
        counts = await self._jobs.all_logs(job.made.id)
        folder = folder_of(job)
        written = await asyncio.to_thread(write, self._jobs.storage, self._files, job, prepared, counts, folder)
        await self._end(job, task, end, problems=(), **written)

    # Blocks

    async def _goes_on(self, lease: Lease) -> bool:
        """A batch whose key was revoked, or has ended, is cancelled."""
        owner = (await self._opener.job(lease.job)).made.caller.lineage
        if await self._may_go_on(owner):
            return True
        log.warning("batch cancelled: its key has ended", batch=lease.job, key=owner)
        await self._jobs.cancel(lease.job)
        await self._jobs.give_back(lease.token)
        return False

    async def _loaded(self) -> list[str]:
        """What the engines can compute with at once, in each first the expert that it does now."""
        found: list[str] = []
        for stats in (await self._stats()).values():
            if isinstance(stats, WorkerStats):
                on_device = [name for name, tier in stats.tiers.items() if tier == "device"]
                found += sorted(on_device, key=lambda name: name != stats.active)
        return found

    def _rate(self, expert: str, began: float, steps: int) -> float | None:
        """Steps a second of a block that is done, and began at that time: since the one of its expert before it."""
        now, since = time.monotonic(), max(began, self._done_at.get(expert, 0.0))
        self._done_at[expert] = now
        return steps / (now - since) if steps and now > since else None

    async def _drain(self, family: str) -> None:
        """Keeps the family's engine busy, as long as there is work for it."""
        own: list[Block] = []
        under_way: set[asyncio.Task[None]] = set()
        while True:
            own = [block for block in own if not block.ended.is_set()]
            while len(under_way) < self._room(family):
                block = next((block for block in own if block.todo and _may_begin(block, own)), None)
                if block is None:
                    if any(block.is_alone and block.todo for block in own) or not (new := await self._take(family)):
                        break
                    own.append(new)
                    continue
                task = asyncio.create_task(self._step(block, block.todo.popleft()))
                block.running.add(task)
                task.add_done_callback(block.running.discard)
                under_way.add(task)
            if under_way:
                done, under_way = await asyncio.wait(
                    under_way, timeout=self._settings.poll_s, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if not task.cancelled() and (error := task.exception()):
                        raise error
            else:
                await self._pause()

    def _room(self, family: str) -> int:
        most = self._settings.in_flight.get(family, 16)
        return max(1, int(most * self._settings.beside)) if self._online() else most

    async def _take(self, family: str) -> Block | None:
        """The next block, opened; None if there is none for now."""
        try:
            loaded = await self._loaded() if family else []
            lease = await self._jobs.take_block(family, self._settings.experts.get(family, 1), loaded)
            if lease is None:
                return None
        except StoreUnavailable as error:
            self._away(error)
            return None
        try:
            if not await self._goes_on(lease):
                return None
            block = await self._opener.open(lease, partial(self._rate, lease.expert))
        except asyncio.CancelledError:
            await asyncio.shield(self._jobs.give_back(lease.token))
            raise
        except StoreUnavailable as error:
            self._away(error)
            return None
        except Exception as error:
            log.exception("a block of a batch cannot be run", batch=lease.job, block=lease.block)
            with suppress(StoreUnavailable):
                await self._jobs.give_back(lease.token, is_lost=True, pause_s=PAUSE_S, why=type(error).__name__)
            return None
        self._blocks[lease.token] = block

        async def forget() -> None:
            await block.ended.wait()
            self._blocks.pop(lease.token, None)

        asyncio.get_running_loop().create_task(forget())
        return block

    async def _step(self, block: Block, step: Step) -> None:
        """Runs one step until there is a record of it. A line that has had its tries ends as an error."""
        made, error = block.made, ApiError("internal", "what ran this line went down each time")
        if block.is_alone:
            block.put(logs.begin(step.number))
            await block.flushed()
        while True:
            if step.tries >= self._settings.tries or step.deaths >= DEATHS:
                block.put(
                    logs.result(step.number, False, failed_line(made, step.at, step.line, step.request_id, error))
                )
                return
            try:
                block.put(await self._record(block, step))
                return
            except Again as again:
                error = again.error
                if again.counts:
                    step.tries += 1
                    block.put(logs.attempt(step.number))
                    if step.tries == self._settings.tries - 1 and getattr(step.line.body, "model", "") == AUTO:
                        step.routed = None  # the plan's expert does not answer: who does is decided as things stand now
                await asyncio.sleep(again.wait_s)

    async def _record(self, block: Block, step: Step) -> bytes:
        made, number = block.made, step.number
        if isinstance(step.routed, Exception):
            told = from_exception(step.routed)
            return logs.result(number, False, failed_line(made, step.at, step.line, step.request_id, told))
        if block.group.stage == 1 and step.team.is_several:
            return logs.draft(number, await self._work.draft(made, step.line, step.request_id, block.group.expert))
        is_ok, content = await self._work.answer(made, step.at, step.line, step.request_id, step.routed, step.drafts)
        return logs.result(number, is_ok, content)


def _may_begin(block: Block, all_of: list[Block]) -> bool:
    return not block.is_alone or not any(other.running for other in all_of)
