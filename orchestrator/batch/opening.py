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
    def __init__(self, jobs: Jobs, work: Work) -> None:
        self._jobs, self._storage, self._work = jobs, jobs.storage, work
        self._plans: dict[str, tuple[Job, Prepared]] = {}

    def forget(self, job_id: str) -> None:
        """The job is at its end."""
        self._plans.pop(job_id, None)

    async def job(self, job_id: str) -> Job:
        """As it was made. Raises StoreUnavailable, UnknownJob, FileNotFoundError for a plan that has gone."""
        return (await self._known(job_id))[0]

    async def open(self, lease: Lease, rate: Callable[[float, int], float | None]) -> Block:
        """The block of a lease. rate: (when it began, its steps) -> steps a second.

        Raises OSError, StoreUnavailable.
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
        made = [self._new_step(prepared, number, left) for number in todo]
        await asyncio.to_thread(self._fill, job, prepared, group, made)
        if group.stage == 2:
            await self._fill_drafts(job, prepared, made)
        size, is_alone = len(todo) + len(found), lease.lost >= ALONE
        own_rate, name = partial(rate, time.monotonic(), len(made)), f"{folder}/{lease.token}"
        block = Block(self._jobs, lease, job.made, group, name, size, is_alone, own_rate)
        block.todo.extend(made)
        if left.found:
            block.put(b"".join(record.raw for record in left.found))
        return block

    async def _known(self, job_id: str) -> tuple[Job, Prepared]:
        if job_id not in self._plans:
            job = await self._jobs.get(job_id)
            prepared = await asyncio.to_thread(load, self._storage, f"jobs/{job_id}/{job.plan}.plan")
            self._plans[job_id] = job, prepared
            while len(self._plans) > PLANS:
                del self._plans[next(iter(self._plans))]
        return self._plans[job_id]

    def _new_step(self, prepared: Prepared, number: int, left: logs.Earlier) -> Step:
        at = int(prepared.plan.lines[number])
        team = prepared.teams[prepared.codes[at]]
        return Step(number, at, team, new_request_id(), left.tries[number], left.begun[number])

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
