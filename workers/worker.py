"""A worker: one engine for one family, kept alive."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, Callable, Sequence

from workers.base import ChatCall, Engine, Event, Failure, Roster, WorkerStats
from workers.preload import Preloader

logger = logging.getLogger(__name__)


async def close_engine(engine: Engine, family: str) -> None:
    """Ends an engine. What goes wrong is logged: whoever ends one has others to look after."""
    try:
        await engine.close()
    except Exception:
        logger.exception("the engine of family %s does not end as it should", family)


class Worker:
    """Owns an engine: starts it, and starts it anew whenever it dies or did not come up.

    roster: whom it serves, see `adopt`; make_engine makes a fresh engine for one. poll is how often the engine is
    looked at, retry how long to wait after a start that failed, both in seconds. After `max_failures` failed starts in
    a row `check_health` raises, so that whoever runs the worker replaces its whole process.
    """

    def __init__(
        self,
        family: str,
        roster: Roster,
        make_engine: Callable[[Roster], Engine],
        *,
        poll: float = 0.5,
        retry: float = 5.0,
        max_failures: int = 5,
    ) -> None:
        self._family, self._roster = family, roster
        self._adopted: Roster | None = None  # what the engine has
        self._adopting: asyncio.Task[None] | None = None
        self._make_engine = make_engine
        self._poll, self._retry, self._max_failures = poll, retry, max_failures
        self._engine: Engine | None = None
        self._starting: Engine | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._starts = 0
        self._failures = 0
        self._problem: str | None = None
        self._ahead = Preloader(lambda: self._engine, roster.images)

    def launch(self) -> None:
        """Begins to start the engine. Until it is up, requests get the Failure "engine_starting"."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            if self._engine is not None and self._engine.is_alive():
                await asyncio.sleep(self._poll)
                continue
            if self._engine is not None:
                logger.error("the engine of family %s died; starting it anew", self._family)
                dead, self._engine = self._engine, None
                await close_engine(dead, self._family)
            try:
                self._engine, roster = await self._started()
                self._has(roster)
                self._follow()
                self._starts, self._failures, self._problem = self._starts + 1, 0, None
            except Exception as error:
                self._failures, self._problem = self._failures + 1, " ".join(str(error).split())
                logger.exception("the engine of family %s did not start", self._family)
                await asyncio.sleep(self._retry)

    async def _started(self) -> tuple[Engine, Roster]:
        roster = self._roster
        engine = self._starting = self._make_engine(roster)
        try:
            await engine.start()
        except BaseException:
            await close_engine(engine, self._family)
            raise
        finally:
            self._starting = None
        return engine, roster

    def adopt(self, roster: Roster) -> None:
        """Serves these experts from now on; `stats` tell when it is so. The engine stays, and calls go on, see
        `workers.base.Engine.adopt`."""
        self._roster = roster
        self._follow()

    def _follow(self) -> None:
        if self._engine is not None and (self._adopting is None or self._adopting.done()):
            self._adopting = asyncio.get_running_loop().create_task(self._adopt())

    async def _adopt(self) -> None:
        while (engine := self._engine) is not None and engine.is_alive():
            if (roster := self._roster) == self._adopted:
                return
            try:
                with self._ahead.held():
                    await engine.adopt(roster.experts, roster.pinned)
                if engine is self._engine:
                    self._has(roster)
            except Exception:
                if engine.is_alive():
                    logger.exception("the engine of family %s does not take its experts", self._family)
                await asyncio.sleep(self._retry)

    def _has(self, roster: Roster) -> None:
        """The engine serves these."""
        self._adopted = roster
        self._ahead.follow(roster.images)

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """See `workers.base.Engine.generate`."""
        engine = self._engine
        if engine is None:
            if self._problem is not None:
                yield Failure("expert_unavailable", f"the engine of {call.expert} does not start: {self._problem}")
            else:
                yield Failure("engine_starting", f"the engine of {call.expert} is starting; try again shortly")
            return
        with self._ahead.held():
            async with contextlib.aclosing(engine.generate(call)) as events:
                async for event in events:
                    yield event

    def live(self, experts: Sequence[str]) -> None:
        """These experts live here from now on, in the order of their worth: their images are brought ahead."""
        self._ahead.live(experts)

    async def stats(self) -> WorkerStats:
        restarts = max(0, self._starts - 1)
        engine = self._engine or self._starting
        if engine is None:
            tier = f"failed: {self._problem}" if self._problem else "starting"
            return WorkerStats(self._family, dict.fromkeys(self._roster.names, tier), restarts=restarts)
        version = self._roster.version if engine is self._engine and self._roster == self._adopted else ""
        return dataclasses.replace(await engine.stats(), restarts=restarts, roster=version)

    def check_health(self) -> None:
        """Raises RuntimeError once the engine could not be started too often in a row."""
        if self._failures >= self._max_failures:
            raise RuntimeError(f"the engine of family {self._family} does not start: {self._problem}")

    async def close(self) -> None:
        """Ends the watch and the engine."""
        if self._adopting is not None:
            self._adopting.cancel()
            await asyncio.wait([self._adopting])
            self._adopting = None
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        await self._ahead.close()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await close_engine(engine, self._family)
