"""The path of a request: admission, route, submit, stream or aggregate, record. `Pipeline.run` is all of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Protocol

import structlog

from aggregators.base import Aggregator, Draft, NoDraft, Piece, Verdict
from experts.registry import Registry
from orchestrator.ensembles import Ensembles
from orchestrator.errors import Overloaded
from orchestrator.events import READY_TIERS, Answered, Ask, PipelineEvent, Routed
from orchestrator.expert_states import ExpertStates
from orchestrator.metrics import Metrics
from orchestrator.records import Recorder
from orchestrator.routing import Routing, Tenant, until
from orchestrator.store import Store
from routers.base import Choice, Route
from workers.base import (
    ChatCall,
    Delta,
    Engine,
    Event,
    Failure,
    Finish,
    WorkerStats,
)

STATS_S = 5.0

log = structlog.stdlib.get_logger(__name__)


class Workers(Protocol):
    """How the pipeline reaches the workers of all families."""

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """The events of the expert's worker; closing the generator aborts the request there."""
        ...

    async def stats(self) -> dict[str, WorkerStats | str]:
        """Family -> its worker's stats, or why there are none."""
        ...


class Pipeline:
    """The service without HTTP. One per process; it belongs to the event loop that it runs in.

    default: how requests are routed; others: how those of the API keys with these ids or names are.
    concurrent: requests at a time, more are refused. backoff: first and longest wait in seconds before a request is
    submitted again to an engine that is starting.
    """

    def __init__(
        self,
        *,
        default: Tenant,
        workers: Workers,
        registry: Registry,
        aggregators: Mapping[str, Aggregator],
        store: Store,
        metrics: Metrics,
        concurrent: int,
        others: Mapping[str, Tenant] | None = None,
        ensembles: Ensembles | None = None,
        backoff: tuple[float, float] = (0.25, 2.0),
    ) -> None:
        self.aggregators: Mapping[str, Aggregator] = aggregators
        self.ensembles: Ensembles = ensembles or {}
        self._workers, self._registry = workers, registry
        self._metrics, self._recorder = metrics, Recorder(store, metrics)
        self._states = ExpertStates(registry, self.stats)
        self._routing = Routing(default, others or {}, registry, self._states, metrics, self.ensembles)
        self._concurrent, self._backoff = concurrent, backoff
        self._running = 0

    async def run(self, ask: Ask) -> AsyncGenerator[PipelineEvent, None]:
        """Routed, then Deltas, then one Answered or Failure. Closing the generator aborts the request everywhere.

        Raises, before the first event: Overloaded, UnknownExpert, NoCandidate (Excluded where trying again is of no
        use), TimeoutError (no route in time).
        """
        with self._admitted(), self._recorder.of(ask) as record:
            routed = await self._routing.route(ask)
            record.see(routed)
            yield routed
            experts = routed.route.experts
            answer = self._one(ask, experts[0]) if len(experts) == 1 else self._several(ask, routed.route)
            async with aclosing(answer):
                async for event in answer:
                    record.see(event)
                    if isinstance(event, Answered):
                        self._routing.answered(ask, routed, event)
                    yield event

    async def decide(self, ask: Ask) -> Routed:
        """The route alone; nothing is generated. Raises as `run` does."""
        with self._admitted():
            return await self._routing.route(ask)

    async def stats(self) -> dict[str, WorkerStats | str]:
        """Family -> its worker's stats, or why there are none; never raises, never takes long."""
        try:
            async with asyncio.timeout(STATS_S):
                return await self._workers.stats()
        except TimeoutError:
            why = f"no answer within {STATS_S:g} s"
        except Exception as error:
            log.exception("stats failed")
            why = f"no answer: {type(error).__name__}"
        return dict.fromkeys(self._registry.families(), why)

    async def not_ready(self) -> dict[str, str]:
        """Expert -> why it cannot answer; empty when every expert can."""
        return not_ready(self._registry, await self.stats())

    async def drain(self) -> None:
        """Waits for what is still to be written, and for the workers if they are being asked."""
        await self._routing.drain()
        await self._recorder.drain()

    # Admission

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._running >= self._concurrent:
            raise Overloaded(f"{self._running} requests are running, which is the limit; try again shortly")
        self._running += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._running -= 1
            self._metrics.in_flight.dec()

    # One expert

    async def _one(self, ask: Ask, expert: str) -> AsyncGenerator[Delta | Answered | Failure, None]:
        async with aclosing(self._submit(ask, expert)) as events:
            async for event in events:
                if isinstance(event, Finish):
                    yield Answered(
                        event.reason, {expert: event.usage}, {expert: event.expert}, winner=expert, used=(expert,)
                    )
                else:
                    yield event

    async def _submit(self, ask: Ask, expert: str) -> AsyncGenerator[Event, None]:
        """One expert's events. The one retry loop of the path: only an engine that has not started anything is asked
        again, until the deadline."""
        call = ChatCall(ask.request_id, expert, ask.messages, ask.sampling, ask.deadline, ask.priority, ask.caller)
        wait, longest = self._backoff
        while True:
            async with aclosing(self._checked(call)) as events:
                first = await anext(events)
                starting = isinstance(first, Failure) and first.code == "engine_starting"
                if not starting or time.time() + wait >= call.deadline:
                    yield first
                    async for event in events:
                        yield event
                    return
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)

    async def _checked(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Whatever a worker does, this is Deltas and then one Finish of the right expert or one Failure."""
        async with aclosing(self._workers.generate(call)) as events:
            while True:
                event = await _next(events, call)
                if isinstance(event, Finish) and event.expert != call.expert:
                    # Text of a wrong expert may be out already, but it is never called an answer.
                    log.error("wrong expert", request_id=call.request_id, routed=call.expert, stamp=event.expert)
                    event = Failure("internal", f"routed to {call.expert}, computed by {event.expert}")
                if isinstance(event, Failure):
                    self._states.failed(call.expert, event)
                elif isinstance(event, Finish):
                    self._states.answered(call.expert)
                yield event
                if not isinstance(event, Delta):
                    return

    # Several experts

    async def _several(self, ask: Ask, route: Route) -> AsyncGenerator[Delta | Answered | Failure, None]:
        finishes: dict[str, Finish] = {}
        failures: dict[str, Failure] = {}
        async with aclosing(self._drafts(ask, route, finishes, failures)) as drafts:
            pieces = self.aggregators[route.aggregator].aggregate(ask.prompt, drafts)
            try:
                async for piece in pieces:
                    if isinstance(piece, Piece):
                        yield Delta(piece.text)
                    else:
                        yield _answered(piece, finishes)
                        return
            except NoDraft as error:
                best = failures[route.experts[0]]
                yield Failure(best.code, f"every expert of the route failed: {error}")
                return
            finally:
                if isinstance(pieces, AsyncGenerator):  # its type promises no more than an iterator
                    await pieces.aclose()
        yield Failure("internal", f"aggregator {route.aggregator} ended without a verdict")

    async def _drafts(
        self, ask: Ask, route: Route, finishes: dict[str, Finish], failures: dict[str, Failure]
    ) -> AsyncGenerator[Draft, None]:
        """Drafts in the order in which they finish; what ended each of them goes into the two dictionaries."""

        async def draft(rank: int, choice: Choice) -> Draft:
            text = ""
            async with aclosing(self._submit(ask, choice.expert)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        text += event.text
                    elif isinstance(event, Finish):
                        finishes[choice.expert] = event
                        return Draft(choice.expert, rank, choice.weight, text, event.reason)
                    else:
                        failures[choice.expert] = event
                        log.warning("draft failed", request_id=ask.request_id, expert=choice.expert, code=event.code)
                        return Draft(choice.expert, rank, choice.weight, error=_public(event))
            raise RuntimeError("a checked stream has an end")

        tasks = [asyncio.create_task(draft(rank, choice)) for rank, choice in enumerate(route.choices)]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for unfinished in tasks:
                unfinished.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


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


def not_ready(registry: Registry, stats: Mapping[str, WorkerStats | str]) -> dict[str, str]:
    """Expert -> why it cannot answer, for those that cannot."""
    reasons = {}
    for spec in registry:
        worker = stats.get(spec.family_name, "the worker of its family does not run")
        tier = worker if isinstance(worker, str) else worker.tiers.get(spec.name, "not loaded yet")
        if tier not in READY_TIERS:
            reasons[spec.name] = tier
    return reasons


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


def _answered(verdict: Verdict, finishes: Mapping[str, Finish]) -> Answered:
    return Answered(
        verdict.finish_reason,
        {expert: finish.usage for expert, finish in finishes.items()},
        {expert: finish.expert for expert, finish in finishes.items()},
        verdict.winner,
        verdict.used,
        verdict.failed,
        verdict.votes,
    )


def _public(failure: Failure) -> str:
    """A draft's error for the caller's eyes; what is behind an internal one is in the log."""
    return "internal error" if failure.code == "internal" else f"{failure.code}: {failure.message}"
