"""The running of blocks: for each family a loop that keeps its engine busy with the lines of one expert.

A line that is under way when something goes down is not to blame for it as such. It is run with fewer others, in the
end alone, and given up only when what happens then is its own doing: see `blame` for runners that go down. An engine
that dies `Settings.tries` times with nothing of this runner in it but that line has died of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog

from orchestrator.batch import logs
from orchestrator.batch.blame import is_to_blame, told_of, wait_s
from orchestrator.batch.block import Block, Step
from orchestrator.batch.jobs import Jobs, Lease
from orchestrator.batch.lives import Lives
from orchestrator.batch.opening import Opener
from orchestrator.batch.work import Again, Work, failed_draft, failed_line
from orchestrator.errors import ApiError, from_exception
from orchestrator.events import AUTO
from orchestrator.metrics import BatchMetrics
from orchestrator.store import StoreUnavailable
from workers.base import WorkerStats

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

    @property
    def pause_s(self) -> float:
        """How long a job is left alone that a fault, such as a full disk, keeps from going on."""
        return 20 * self.poll_s


Stats = Callable[[], Awaitable[Mapping[str, WorkerStats | str]]]


class Drain:
    """blocks: those of this runner, by their lease. stats, online, may_go_on: as in `Runner`. away: told when Redis
    cannot be reached. pause: waits until there may be work."""

    def __init__(
        self,
        jobs: Jobs,
        work: Work,
        opener: Opener,
        lives: Lives,
        settings: Settings,
        metrics: BatchMetrics,
        stats: Stats,
        online: Callable[[], int],
        may_go_on: Callable[[str], Awaitable[bool]],
        away: Callable[[StoreUnavailable], None],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._jobs, self._work, self._opener, self._lives, self._settings = jobs, work, opener, lives, settings
        self._stats, self._online, self._may_go_on = stats, online, may_go_on
        self._metrics, self._away, self._pause = metrics, away, pause
        self.blocks: dict[str, Block] = {}
        self._done_at: dict[str, float] = {}
        self._one = asyncio.Lock()
        """Held by the one step of this runner that is run alone."""

    async def stop(self) -> None:
        """Gives back what is under way, and keeps what is done."""
        await asyncio.gather(*(block.stop() for block in list(self.blocks.values())))

    async def run(self, family: str) -> None:
        """Keeps the family's engine busy, as long as there is work for it."""
        own: list[Block] = []
        under_way: dict[asyncio.Task[None], int] = {}
        while True:
            own = [block for block in own if not block.ended.is_set()]
            while len(under_way) < (room := self._room(family)):
                if (found := self._next(own, under_way, room)) is not None:
                    block, most = found
                    task = asyncio.create_task(self._step(block, block.todo.popleft(), most))
                    block.running.add(task)
                    task.add_done_callback(block.running.discard)
                    under_way[task] = most
                elif any(block.todo or block.is_stuck for block in own) or not (new := await self._take(family)):
                    break
                else:
                    own.append(new)
            if under_way:
                done, _ = await asyncio.wait(
                    under_way, timeout=self._settings.poll_s, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del under_way[task]
                    if not task.cancelled() and (error := task.exception()):
                        raise error
            else:
                await self._pause()

    def _next(
        self, own: list[Block], under_way: Mapping[asyncio.Task[None], int], room: int
    ) -> tuple[Block, int] | None:
        """The block whose next step may begin now, and how many may be under way beside it, itself included."""
        if any(block.is_stuck for block in own):
            return None
        for block in own:
            if block.todo:
                most = 1 if block.is_alone else company(room, block.todo[0].hits)
                if len(under_way) < min([most, *under_way.values()]):
                    return block, most
        return None

    def _room(self, family: str) -> int:
        most = self._settings.in_flight.get(family, 16)
        return max(1, int(most * self._settings.beside)) if self._online() else most

    # Blocks

    async def loaded(self) -> list[str]:
        """What the engines can compute with at once, in each first the expert that it does now."""
        found: list[str] = []
        for stats in (await self._stats()).values():
            if isinstance(stats, WorkerStats):
                on_device = [name for name, tier in stats.tiers.items() if tier == "device"]
                found += sorted(on_device, key=lambda name: name != stats.active)
        return found

    async def _take(self, family: str) -> Block | None:
        """The next block, opened; None if there is none for now."""
        try:
            loaded = await self.loaded() if family else []
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
            self._jobs.put_off(lease, family)
            self._away(error)
            return None
        except Exception as error:
            log.exception("a block of a batch cannot be run", batch=lease.job, block=lease.block)
            with suppress(StoreUnavailable):
                await self._jobs.give_back(lease.token, pause_s=self._settings.pause_s, why=told(error))
            return None
        self.blocks[lease.token] = block

        async def forget() -> None:
            await block.ended.wait()
            self.blocks.pop(lease.token, None)

        asyncio.get_running_loop().create_task(forget())
        return block

    async def _goes_on(self, lease: Lease) -> bool:
        """A batch whose key was revoked, or has ended, is cancelled."""
        owner = (await self._opener.job(lease.job)).made.caller.lineage
        if await self._may_go_on(owner):
            return True
        log.warning("batch cancelled: its key has ended", batch=lease.job, key=owner)
        await self._jobs.cancel(lease.job)
        await self._jobs.give_back(lease.token)
        return False

    def _rate(self, expert: str, began: float, steps: int) -> float | None:
        """Steps a second of a block that is done, and began at that time: since the one of its expert before it."""
        now, since = time.monotonic(), max(began, self._done_at.get(expert, 0.0))
        self._done_at[expert] = now
        return steps / (now - since) if steps and now > since else None

    # Steps

    async def _step(self, block: Block, step: Step, most: int) -> None:
        """Runs one step until there is a record of it, or it is put back. most: that may be under way beside it."""
        try:
            if block.is_alone:
                await self._alone(block, step)
            else:
                await self._try(block, step, most)
        except StoreUnavailable as error:
            self._away(error)
            await block.stop()
        except Exception as error:
            log.exception("a line of a batch cannot be run", batch=block.made.id, line=step.at)
            await block.stop(pause_s=self._settings.pause_s, why=told(error))

    async def _alone(self, block: Block, step: Step) -> None:
        async with self._one, self._lives.watched(block.made.id, step.number) as (own, others):
            if is_to_blame(own, others):
                text = told_of("ran this line alone", own, others)
                await self._give_up(block, step, "runner", own.deaths, ApiError("fatal_line", text))
            elif wait := wait_s(own, others):
                block.waits.append(wait)
            else:
                await self._opener.fill(block.made.id, block.group, [step])
                await self._try(block, step, 1)
        if block.waits and not block.todo:
            await block.stop(delay_s=min(block.waits))

    async def _try(self, block: Block, step: Step, most: int) -> None:
        while True:
            try:
                is_ok, record = await self._record(block, step)
            except Again as raised:
                again, error = raised, raised.error
            else:
                block.put(record)
                self._metrics.lines.labels("answer" if is_ok else "error").inc()
                return
            if error.cause == "engine_died":
                is_alone = most == 1
                block.put(logs.hit(step.number, is_alone))
                if not is_alone:
                    step.hits += 1
                    block.todo.append(step)
                    return
                step.downs += 1
                if step.downs >= self._settings.tries:
                    text = f"{error.message}; that was so {step.downs} times while it ran this line alone"
                    await self._give_up(block, step, "engine", step.downs, ApiError("fatal_line", text))
                    return
                await asyncio.sleep(2**step.downs)
            elif again.counts:
                step.tries += 1
                block.put(logs.attempt(step.number))
                if step.tries >= self._settings.tries:
                    await self._give_up(block, step, "tries", step.tries, error)
                    return
                if step.tries == self._settings.tries - 1 and getattr(step.line.body, "model", "") == AUTO:
                    step.routed = None  # the plan's expert does not answer: who does is decided as things stand now
            elif block.is_alone:
                block.waits.append(again.wait_s)  # all others need not wait with it
                return
            await asyncio.sleep(again.wait_s)

    async def _record(self, block: Block, step: Step) -> tuple[bool, bytes]:
        """(is it an answer, the record). Raises Again."""
        made, number = block.made, step.number
        if isinstance(step.routed, Exception):
            error = from_exception(step.routed)
            line = failed_line(made, step.at, step.line.custom_id, step.request_id, error)
            return False, logs.result(number, False, line)
        if _is_draft(block, step):
            draft = await self._work.draft(made, step.line, step.request_id, block.group.expert)
            return True, logs.draft(number, draft)
        is_ok, content = await self._work.answer(made, step.at, step.line, step.request_id, step.routed, step.drafts)
        return is_ok, logs.result(number, is_ok, content)

    async def _give_up(
        self, block: Block, step: Step, what: Literal["runner", "engine", "tries"], times: int, error: ApiError
    ) -> None:
        """A dead letter: the line ends as an error, though by none that the endpoint gives."""
        log.warning(
            "a line of a batch was given up",
            batch=block.made.id, line=step.at, expert=block.group.expert, what=what, times=times, why=error.message,
        )  # fmt: skip
        self._metrics.dead.labels(what).inc()
        if _is_draft(block, step):
            block.put(logs.draft(step.number, failed_draft(error)))
            return
        self._metrics.lines.labels("error").inc()
        custom_id = await self._opener.custom_id(block.made.id, step)
        block.put(logs.result(step.number, False, failed_line(block.made, step.at, custom_id, step.request_id, error)))


def company(room: int, hits: int) -> int:
    """How many lines may be under way where one is that was there when so many engines died: fewer each time, so that
    the one that does it is soon alone, and the others are not held up for long."""
    return max(1, room >> 2 * hits)


def _is_draft(block: Block, step: Step) -> bool:
    return block.group.stage == 1 and step.team.is_several


def told(error: Exception) -> str:
    """What its caller learns of a fault."""
    return f"{error.strerror or error}" if isinstance(error, OSError) else type(error).__name__
