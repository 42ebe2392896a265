"""Step 3 of a request: one chat for one expert. Whatever its worker does, the caller sees a well-formed stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Protocol

import structlog

from experts.registry import Registry
from orchestrator.access.admission import loop_time
from orchestrator.access.lanes import Lane
from orchestrator.expert_states import ExpertStates
from orchestrator.routing import until
from workers.base import ChatCall, Delta, Engine, Event, Failure, Finish, WorkerStats

log = structlog.stdlib.get_logger(__name__)


class Workers(Protocol):
    """How the service reaches the workers of all families."""

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """The events of the expert's worker; closing the generator aborts the request there."""
        ...

    async def stats(self) -> dict[str, WorkerStats | str]:
        """Family -> its worker's stats, or why there are none."""
        ...


class LocalWorkers:
    """Workers in this process: an engine per family, started by whoever made it."""

    def __init__(self, engines: Mapping[str, Engine], registry: Registry) -> None:
        self._engines, self._registry = engines, registry

    async def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        family = self._registry.get(call.expert).family_name
        if family not in self._engines:
            yield Failure("expert_unavailable", f"no worker serves the family {family!r}")
            return
        async with aclosing(self._engines[family].generate(call)) as events:
            async for event in events:
                yield event

    async def stats(self) -> dict[str, WorkerStats | str]:
        stats: dict[str, WorkerStats | str] = {}
        for family, engine in self._engines.items():
            try:
                stats[family] = await engine.stats()
            except Exception as error:
                log.exception("stats failed", family=family)
                stats[family] = f"no stats: {type(error).__name__}"
        return stats


class Calls:
    """Submits calls to workers, and tells `states` how they ended.

    registry: knows each expert's family. batches: family -> requests that its engine runs at a time; none for one that
    has no bound. backoff: first and longest wait in seconds before a call goes again to an engine that is starting.
    """

    def __init__(
        self,
        workers: Workers,
        states: ExpertStates,
        registry: Registry,
        batches: Mapping[str, int],
        backoff: tuple[float, float],
    ) -> None:
        self.workers = workers
        self._states, self._registry, self._backoff = states, registry, backoff
        self._lanes = {family: Lane(batches.get(family)) for family in registry.families()}

    def lane(self, expert: str) -> Lane:
        """What is known of the queue of the expert's family."""
        return self._lanes[self._registry.get(expert).family_name]

    async def submit(self, call: ChatCall, *, alone: bool = True) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish of the right expert or one Failure. Closing it aborts the call in its engine.

        The one retry loop of the path, before the first token only: an engine that has not started anything is asked
        again until the deadline, and once again where it died; Serve then chooses a replica that is up.
        alone: no other expert's draft stands in for this call; else the death of its engine is told at once.
        """
        if problem := self._states.enter(call.expert):
            yield Failure("expert_unavailable", f"expert {call.expert!r}: {problem}")
            return
        lane, answered = self.lane(call.expert), False
        began = lane.begin(loop_time())
        try:
            async with aclosing(self._submit(call, alone)) as events:
                async for event in events:
                    answered = isinstance(event, Finish)
                    yield event
        finally:
            lane.end(began, loop_time(), answered=answered)
            self._states.left(call.expert)

    async def _submit(self, call: ChatCall, alone: bool) -> AsyncGenerator[Event, None]:
        wait, longest = self._backoff
        again = {"engine_starting": float("inf"), "engine_died": 1 if alone else 0}
        while True:
            async with aclosing(self._checked(call)) as events:
                first = await anext(events)
                left = again.get(first.code, 0) if isinstance(first, Failure) else 0
                if not left or time.time() + wait >= call.deadline:
                    yield first
                    async for event in events:
                        yield event
                    return
                assert isinstance(first, Failure)
                again[first.code] = left - 1
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)

    async def _checked(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        async with aclosing(self.workers.generate(call)) as events:
            while True:
                event = await _next(events, call)
                if isinstance(event, Finish) and event.expert != call.expert:
                    # Text of a wrong expert may be out already, but it is never called an answer.
                    log.error("wrong expert", request_id=call.request_id, routed=call.expert, stamp=event.expert)
                    event = Failure("internal", f"routed to {call.expert}, computed by {event.expert}")
                if isinstance(event, Delta):
                    yield event.in_utf8()
                    continue
                if isinstance(event, Failure):
                    self._states.failed(call.expert, event)
                else:
                    self._states.answered(call.expert)
                yield event
                return


async def _next(events: AsyncGenerator[Event, None], call: ChatCall) -> Event:
    """The worker's next event; its silence, its exception and its untimely end are failures."""
    limit = until(call.deadline)
    try:
        async with limit:
            return await anext(events)
    except StopAsyncIteration:
        return Failure("internal", f"the worker of {call.expert} ended without an end")
    except Exception as error:
        if limit.expired():
            return Failure("deadline", "the answer was not ready within the time limit")
        log.exception("worker failed", request_id=call.request_id, expert=call.expert)
        return Failure("internal", f"the worker of {call.expert} raised {type(error).__name__}")
