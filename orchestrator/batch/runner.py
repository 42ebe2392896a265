"""What works on batches: it plans them, runs their blocks expert by expert, and writes what they end with.

Any number of runners share the work through `Jobs`; each gateway has one. A runner has a loop for each family, which
keeps as many lines under way as the engine runs in one batch (`Drain`). It takes blocks of one expert as long as there
are any, from whichever job, and turns to the next when the last line of that one is done: so each is loaded once.

Lines have the lowest priority, and while other requests are under way, fewer of them are (`Settings.beside`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from orchestrator.batch import pieces
from orchestrator.batch.apart import Apart, Here, Watch
from orchestrator.batch.blame import is_to_blame, told_of, wait_s
from orchestrator.batch.drain import Drain, Settings, Stats, told
from orchestrator.batch.files import Files
from orchestrator.batch.jobs import LIVE, Job, Jobs, Task, problem
from orchestrator.batch.lines import UnreadableFile
from orchestrator.batch.lives import Lives
from orchestrator.batch.opening import Opener, folder_of
from orchestrator.batch.output import write
from orchestrator.batch.plan import NOBODY
from orchestrator.batch.planner import Planner, Prepared, Rules, load, save
from orchestrator.batch.work import Work
from orchestrator.metrics import BatchMetrics
from orchestrator.store import StoreUnavailable

FAULTS = 5
"""Planning or finishing a job has met so many that the job has failed."""
OFTEN = 3
"""How often it may be begun in a row before it is watched whether it is what ends runners."""
LOOK_S = 5.0
"""How old the number of jobs by state in the metrics may be, and how long a file lies on after its time."""

log = structlog.stdlib.get_logger(__name__)


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
        metrics: BatchMetrics,
        lives: Lives,
        stats: Stats,
        online: Callable[[], int],
        may_go_on: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._jobs, self._files, self._work, self._rules, self._settings = jobs, files, work, rules, settings
        self._lives, self._metrics, self._online = lives, metrics, online
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opener = Opener(jobs, work, lives)
        self._drain = Drain(
            jobs, work, self._opener, lives, settings, metrics, stats, online, may_go_on, self._away, self._pause
        )
        metrics.blocks.set_function(lambda: len(self._drain.blocks))
        self._must_restore = True
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled; then what is under way is given back, and what is done is kept."""
        families = {NOBODY, *self._rules.families.values()}
        with suppress(StoreUnavailable):
            await self._lives.beat()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew())
                group.create_task(self._plan_and_finish())
                for family in families:
                    group.create_task(self._drain.run(family))
                group.create_task(self._look_after())
        finally:
            await self._drain.stop()
            with suppress(StoreUnavailable):
                await self._lives.leave()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_s):
                await self._wake.wait()
        self._wake.clear()

    def _away(self, error: StoreUnavailable) -> None:
        if not self._must_restore:
            log.warning("batches wait for Redis", why=str(error))
        self._must_restore = True

    async def _look_after(self) -> None:
        """Jobs by state, for the metrics; and files whose time has come are removed."""
        while True:
            try:
                if removed := await asyncio.to_thread(self._files.remove_expired):
                    log.info("files have expired", files=removed)
            except OSError as error:
                log.warning("expired files cannot be removed", why=str(error))
            with suppress(StoreUnavailable):
                states = await self._jobs.states()
                for status in LIVE:
                    self._metrics.jobs.labels(status).set(states[status])
            await asyncio.sleep(LOOK_S)

    async def _renew(self) -> None:
        """Tells that this runner lives, and keeps the leases. One that has ended, or whose job has, is let go."""
        while True:
            await asyncio.sleep(self._jobs.lease_s / 3)
            tokens = [*self._drain.blocks, *self._tasks]
            try:
                await self._lives.beat()
                statuses = await self._jobs.renew(tokens)
            except StoreUnavailable as error:
                self._away(error)
                continue
            for token, status in zip(tokens, statuses, strict=True):
                if (block := self._drain.blocks.get(token)) is not None:
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
            elif task.faults >= FAULTS:
                why = "; ".join(own["message"] for own in job.problems)
                await self._fail(job, task, f"{task.kind} was tried {task.faults} times: {why}")
            elif task.tries <= OFTEN:
                await self._plan_or_finish(job, task)
            else:
                async with self._lives.watched(task.job, task.kind) as (own, others):
                    if is_to_blame(own, others):
                        await self._fail(job, task, told_of(f"did '{task.kind}' for this batch", own, others))
                    elif wait := wait_s(own, others):
                        await self._jobs.give_back(task.token, pause_s=wait)
                    else:
                        await self._plan_or_finish(job, task)
        except StoreUnavailable as error:
            self._away(error)
        except UnreadableFile as error:
            await self._end(job, task, "failed", problems=(problem(str(error), "invalid_file"),))
        except Exception as error:
            log.exception("a batch does not go on", batch=task.job, step=task.kind)
            is_fault = not isinstance(error, OSError)  # a disk that is full has room again, however long it takes
            with suppress(StoreUnavailable):
                await self._jobs.give_back(
                    task.token, pause_s=self._settings.pause_s, is_fault=is_fault, why=told(error)
                )

    async def _plan_or_finish(self, job: Job, task: Task) -> None:
        await (self._plan if task.kind == "plan" else self._finish)(job, task)

    async def _fail(self, job: Job, task: Task, why: str) -> None:
        log.error("a batch has failed", batch=task.job, why=why)
        await self._end(job, task, "failed", problems=(problem(why, "internal_error"),))

    async def _end(self, job: Job, task: Task, status: str, **fields: object) -> bool:
        times = {**job.times, status: int(time.time() * 1000)}
        ended = await self._jobs.end(replace(job, status=status, times=times, **fields), task.token)  # type: ignore[arg-type]
        if ended:
            self._metrics.ended.labels(status).inc()
            await asyncio.to_thread(self._tidy, job, keep=status == "failed" and job.plan is not None)
        return ended

    def _tidy(self, job: Job, *, keep: bool) -> None:
        """What a job at its end needs no more. keep: it has results that could not be written as files."""
        self._opener.forget(job.made.id)
        if keep:
            return
        for name in self._jobs.storage.names(f"jobs/{job.made.id}"):
            if name != "job.json":
                self._jobs.storage.remove(f"jobs/{job.made.id}/{name}")

    async def _plan(self, job: Job, task: Task) -> None:
        loaded, began = await self._drain.loaded(), time.monotonic()
        watch = Watch(self._online)
        try:
            name, prepared = await asyncio.to_thread(self._prepared, job, task.token, loaded, watch)
        finally:
            watch.stop()
        fields = {"plan": name, **prepared.facts()}
        end = "completed" if job.made.plan_only or not prepared.plan.groups else ""
        await self._jobs.planned(task.token, fields, prepared.plan.groups, end)
        self._metrics.planning.observe(time.monotonic() - began)
        self._metrics.lines.labels("refused").inc(prepared.bad)

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
