"""A block is opened: what its earlier holders have left is read, and the lines of what is still to be run."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.batch import logs
from orchestrator.batch.block import Block, Step
from orchestrator.batch.jobs import Job, Jobs, Lease
from orchestrator.batch.lines import custom_id_of
from orchestrator.batch.lives import Lives
from orchestrator.batch.plan import Group
from orchestrator.batch.planner import Prepared, load
from orchestrator.batch.work import Work, as_planned, kept, new_request_id
from orchestrator.events import Routed

ALONE = 3
"""Leases in a row that a block may cost before its lines run one at a time: one of them may be what ends runners."""
PLANS = 4
"""Plans that are kept in memory."""


def folder_of(job: Job) -> str:
    """Of the logs of a job's plan."""
    return f"jobs/{job.made.id}/{job.plan}.logs"


class Opener:
    def __init__(self, jobs: Jobs, work: Work, lives: Lives) -> None:
        self._jobs, self._storage, self._work, self._lives = jobs, jobs.storage, work, lives
        self._plans: dict[str, tuple[Job, Prepared]] = {}

    def forget(self, job_id: str) -> None:
        """The job is at its end."""
        self._plans.pop(job_id, None)

    async def job(self, job_id: str) -> Job:
        """As it was made. Raises StoreUnavailable, UnknownJob, FileNotFoundError for a plan that has gone."""
        return (await self._known(job_id))[0]

    async def open(self, lease: Lease, rate: Callable[[float, int], float | None]) -> Block:
        """The block of a lease. rate: (when it began, its steps) -> steps a second.

        The steps of one that is run alone are to be filled one by one, for to read a line may be what ends a runner;
        those that no runner went down with come first. Raises OSError, StoreUnavailable.
        """
        job, prepared = await self._known(lease.job)
        storage, folder = self._storage, f"{folder_of(job)}/{lease.block}"
        tokens = await asyncio.to_thread(storage.logs, folder)
        counts = await self._jobs.logs(lease.job, lease.block, tokens)
        read = await asyncio.to_thread(lambda: [storage.log(f"{folder}/{token}") for token in tokens])
        left = logs.earlier([(data, own.bytes) for data, own in zip(read, counts, strict=True)])
        group, steps = prepared.plan.block(lease.block)
        found = {record.step for record in left.found}
        todo = [number for number in steps if number not in left.done and number not in found]
        deaths = await self._lives.deaths(lease.job, todo)
        made = [self._new_step(prepared, *own, left) for own in zip(todo, deaths, strict=True)]
        made.sort(key=lambda step: step.deaths)
        size, is_alone = len(todo) + len(found), lease.lost >= ALONE or any(deaths)
        if not is_alone:
            await self.fill(lease.job, group, made)
        own_rate, name = partial(rate, time.monotonic(), len(made)), f"{folder}/{lease.token}"
        block = Block(self._jobs, lease, job.made, group, name, size, is_alone, own_rate)
        block.todo.extend(made)
        if left.found:
            block.put(b"".join(record.raw for record in left.found))
        return block

    async def fill(self, job_id: str, group: Group, steps: list[Step]) -> None:
        """Reads the lines of the steps, and who answers them. Raises OSError, StoreUnavailable."""
        job, prepared = await self._known(job_id)
        await asyncio.to_thread(self._fill, job, prepared, group, steps)
        if group.stage == 2:
            await self._fill_drafts(job, prepared, steps)

    async def _known(self, job_id: str) -> tuple[Job, Prepared]:
        if job_id not in self._plans:
            job = await self._jobs.get(job_id)
            prepared = await asyncio.to_thread(load, self._storage, f"jobs/{job_id}/{job.plan}.plan")
            self._plans[job_id] = job, prepared
            while len(self._plans) > PLANS:
                del self._plans[next(iter(self._plans))]
        return self._plans[job_id]

    async def custom_id(self, job_id: str, step: Step) -> str | None:
        """That of the step's line, whether it was read or not."""
        _, prepared = await self._known(job_id)

        def read() -> str | None:
            with self._storage.local(f"jobs/{job_id}/input").open("rb") as file:
                file.seek(int(prepared.offsets[step.at]))
                return custom_id_of(file.read(int(prepared.lengths[step.at])))

        return await asyncio.to_thread(read)

    def _new_step(self, prepared: Prepared, number: int, deaths: int, left: logs.Earlier) -> Step:
        at = int(prepared.plan.lines[number])
        team = prepared.teams[prepared.codes[at]]
        tries, hits, downs = left.tries[number], left.hits[number], left.downs[number]
        return Step(number, at, team, new_request_id(), tries, deaths, hits, downs)

    def _fill(self, job: Job, prepared: Prepared, group: Group, steps: list[Step]) -> None:
        """Reads the lines of the steps and decides on them, as the plan did."""
        path: Path = self._storage.local(f"jobs/{job.made.id}/input")
        handle = os.open(path, os.O_RDONLY)
        try:
            for step in steps:
                data = os.pread(handle, int(prepared.lengths[step.at]), int(prepared.offsets[step.at]))
                step.line = self._work.line(job.made, data)
        finally:
            os.close(handle)
        whole = [step for step in steps if group.stage == 2 or not step.team.is_several]
        teams = self._work.teams(job.made.caller)
        routes = teams.routes([step.line for step in whole], [step.request_id for step in whole])
        for step, routed in zip(whole, routes, strict=True):
            step.routed = as_planned(routed, step.team) if isinstance(routed, Routed) else routed

    async def _fill_drafts(self, job: Job, prepared: Prepared, steps: list[Step]) -> None:
        storage = self._storage
        wanted = {step.number: prepared.plan.drafts(step.at, step.team) for step in steps}
        contents: dict[int, bytes] = {}
        for number in {block for own in wanted.values() for block, _ in own.values()}:
            folder = f"{folder_of(job)}/{number}"
            tokens = await asyncio.to_thread(storage.logs, folder)
            for token, own in zip(tokens, await self._jobs.logs(job.made.id, number, tokens), strict=True):
                data = (await asyncio.to_thread(storage.log, f"{folder}/{token}"))[: own.bytes]
                for record in logs.records(data):
                    if record.kind == "D":
                        contents[record.step] = data[record.at : record.at + record.length]
        for step in steps:
            step.drafts = {expert: kept(contents[number]) for expert, (_, number) in wanted[step.number].items()}
