"""The path of a request: admission, route, submit, stream or aggregate, record. `Pipeline.run` is all of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from aggregators.base import Aggregator
from experts.registry import Registry, UnknownExpert
from orchestrator.access.admission import Admission, Place, loop_time
from orchestrator.access.breaker import Rules
from orchestrator.access.grant import EVERYTHING, SHARES, Grant
from orchestrator.access.limiter import Limiter
from orchestrator.access.quota import Allowance, Use
from orchestrator.calls import Calls, Workers
from orchestrator.choices import many, one
from orchestrator.drafting import request_of, several
from orchestrator.ensembles import Ensembles, UnknownEnsemble
from orchestrator.errors import CALLERS_FAULTS, CLIENT_GONE, Overloaded, from_exception
from orchestrator.events import READY_TIERS, Answered, Ask, PipelineEvent, Routed
from orchestrator.expert_states import ExpertStates
from orchestrator.ledger import Ledger
from orchestrator.metrics import Metrics
from orchestrator.records import KEPT, ROUTED, Kept, Recorder
from orchestrator.routing import Deciding, Routing, Tenant
from orchestrator.store import Store
from workers.base import Delta, Failure, WorkerStats
from workers.tracing import names

STATS_S = 5.0
"""Of all workers: longer than each of them has, see `workers.channel.client.STATS_S`."""
SHOWN_NS = 1_000_000
"""A shorter wait for admission has no span."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Spending:
    """What a request was allowed, and its calls. came: nanoseconds of Unix time. own: what it used without any."""

    allowance: Allowance
    came: int
    ledger: Ledger | None = None
    own: Use = field(default_factory=Use)
    refused: bool = False

    def waited(self) -> float:
        """Seconds since it came; a clock that was set back meanwhile makes none."""
        return max(0, time.time_ns() - self.came) / 1e9

    @property
    def use(self) -> Use:
        used = self.ledger.used if self.ledger else self.own
        return replace(used, requests=0 if self.refused else 1)


class Pipeline:
    """The service without HTTP. One per process; it belongs to the event loop that it runs in.

    default: how requests are routed; others: how those of the API keys with these ids or names are.
    limiter: of the limits of keys; by default no key has any but its own. concurrent: requests that run at a time;
    waiting: that wait; more are refused, and those that would wait for more than queue_s seconds. batches, backoff: see
    Calls; breaker: see ExpertStates. records: which are kept of decisions. former: the pipeline whose place this one
    takes: its requests go on there, and the places to run in are the same.
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
        waiting: int = 0,
        queue_s: float = 30.0,
        batches: Mapping[str, int] | None = None,
        others: Mapping[str, Tenant] | None = None,
        ensembles: Ensembles | None = None,
        limiter: Limiter | None = None,
        breaker: Rules | None = None,
        backoff: tuple[float, float] = (0.25, 2.0),
        former: "Pipeline | None" = None,
        records: Kept = KEPT,
    ) -> None:
        self.limiter = limiter or Limiter(store, metrics)
        self.aggregators: Mapping[str, Aggregator] = aggregators
        self.ensembles: Ensembles = ensembles or {}
        self._registry, self._metrics, self._recorder = registry, metrics, Recorder(store, metrics, records)
        before: ExpertStates | None = former._states if former else None
        states = ExpertStates(registry, self.stats, rules=breaker, former=before)
        metrics.circuit.clear()
        for spec in registry:
            metrics.feedback.labels(spec.name)  # there at 0, as all that is rare
            if spec.kind == "remote":
                value = partial(_circuit_value, states, spec.name)
                metrics.circuit.labels(spec.name).set_function(value)
        self._states: ExpertStates = states
        self.circuit = states.circuit
        self._routing = Routing(default, others or {}, registry, states, metrics, aggregators, self.ensembles)
        self._calls = Calls(workers, states, registry, batches or {}, backoff)
        self._admission: Admission = former._admission if former else Admission(concurrent, waiting, queue_s, metrics)
        self.online = 0
        """Requests under way, or waiting, that are of no batch."""

    async def run(self, ask: Ask) -> AsyncGenerator[PipelineEvent, None]:
        """Routed, then Deltas, then one Answered or Failure. Closing the generator aborts the request everywhere.

        Raises, before the first event: LimitReached, Overloaded, UnknownExpert, NoCandidate (Excluded where trying
        again is of no use), TimeoutError (no route in time), StoreUnavailable (a limit cannot be told).
        """
        async with (
            self._seen(ask),
            self._allowed(ask, self._routing.most_used) as spending,
            self._admitted(ask, spending.came) as place,
        ):
            with self._recorder.of(ask, spending.waited()) as record:
                routed = replace(ask.decided or await self._routed(ask), allowance=spending.allowance)
                self._timely(ask, routed)
                record.see(routed)
                yield routed
                record.ledger = spending.ledger = Ledger(ask, self._calls, self._registry, routed.budget)
                async with aclosing(self._answer(ask, routed, record.ledger)) as answer:
                    async for event in answer:
                        record.see(event)
                        if isinstance(event, Answered):
                            place.answered = True
                            self._routing.answered(ask, routed, event)
                        yield event

    def deciding(self) -> Deciding:
        """What decides on many requests at once, without regard to what is loaded or down now, also in another process.
        Nothing counts for limits."""
        return self._routing.deciding()

    async def decide(self, ask: Ask) -> Routed:
        """The route alone; nothing is generated. Raises as `run` does."""
        async with self._allowed(ask, lambda _: Use()) as spending, self._admitted(ask, spending.came):
            with self._recorder.of(ask, spending.waited(), "decision") as record:
                routed = replace(await self._routed(ask), allowance=spending.allowance)
                record.see(routed)
                record.outcome = ROUTED
        return routed

    @asynccontextmanager
    async def counted(self, ask: Ask, tokens: int) -> AsyncIterator[None]:
        """A request that asks no expert and reads so many tokens: limits and admission are as for any other. Raises
        LimitReached, Overloaded, StoreUnavailable."""
        use = Use(tokens=tokens)
        async with self._allowed(ask, lambda _: use) as spending, self._admitted(ask, spending.came):
            spending.own = use
            with self._recorder.of(ask, spending.waited(), "embedding") as record:
                record.read = tokens
                yield
                record.outcome = "ok"

    def experts(self, caller: str, caller_name: str, grant: Grant = EVERYTHING) -> tuple[str, ...]:
        """Names of the experts that the API key of this lineage and name, with this grant, may use."""
        return self._routing.experts(caller, caller_name, grant)

    async def stats(self) -> dict[str, WorkerStats | str]:
        """Family -> its worker's stats, or why there are none; never raises, never takes long."""
        try:
            async with asyncio.timeout(STATS_S):
                return await self._calls.workers.stats()
        except TimeoutError:
            why = f"no answer within {STATS_S:g} s"
        except Exception as error:
            log.exception("stats failed")
            why = f"no answer: {type(error).__name__}"
        return dict.fromkeys(self._registry.families(), why)

    async def not_ready(self) -> dict[str, str]:
        """Expert -> why it cannot answer; empty when every expert can."""
        return not_ready(self._registry, await self.stats())

    async def recorded(self) -> None:
        """Waits until the decision records of all answers so far are stored."""
        await self._recorder.catch_up()

    async def drain(self) -> None:
        """Waits for what is still to be written, and for the workers if they are being asked."""
        await self._routing.drain()
        await self._recorder.drain()
        await self.limiter.drain()

    # Admission

    @asynccontextmanager
    async def _seen(self, ask: Ask) -> AsyncIterator[None]:
        online = ask.grant.priority != "batch"
        self.online += online
        try:
            yield
        finally:
            self.online -= online

    @asynccontextmanager
    async def _allowed(self, ask: Ask, most_used: Callable[[Ask], Use]) -> AsyncIterator[_Spending]:
        """What the key's limits allow is reserved for the block, and settled with what its calls have used."""
        came, caps, use = time.time_ns(), self.limiter.caps(ask.grant), Use()
        if caps:
            with suppress(UnknownExpert, UnknownEnsemble):  # the routing tells; it is a request all the same
                use = most_used(ask)
        with self._seen_waiting(ask, came):
            spending = _Spending(await self.limiter.admit(ask.request_id, ask.caller, caps, use), came)
        try:
            yield spending
        except Overloaded:
            spending.refused = True
            raise
        finally:
            if ask.caller:
                self.limiter.settle(spending.allowance, spending.use)

    @asynccontextmanager
    async def _admitted(self, ask: Ask, came: int) -> AsyncIterator[Place]:
        """A place for the block. came: see `_Spending`; the trace's span of admission begins there."""
        async with AsyncExitStack() as stack:
            place = self._admission.place(ask.caller, SHARES[ask.grant.priority], ask.deadline - time.time())
            with self._seen_waiting(ask, came):
                admitted = await stack.enter_async_context(place)
            if time.time_ns() - came >= SHOWN_NS:
                ask.span.child(names.ADMISSION, began=came).end()
            yield admitted

    @contextmanager
    def _seen_waiting(self, ask: Ask, came: int) -> Iterator[None]:
        """Who is turned away in the block has a span of it; so has who leaves, and is counted."""
        try:
            yield
        except Exception as error:
            self._not_admitted(ask, came, from_exception(error).cause)
            raise
        except asyncio.CancelledError:
            self._not_admitted(ask, came, CLIENT_GONE)
            if ask.grant.priority != "batch":  # else it is a block of lines that is given back
                self._metrics.refused.labels(CLIENT_GONE).inc()
            raise

    def _not_admitted(self, ask: Ask, came: int, cause: str) -> None:
        span = ask.span.child(names.ADMISSION, began=came)
        span.fail(cause)
        span.excuse(CALLERS_FAULTS)
        span.end()
        ask.span.fail(cause)  # of a stream that has begun nobody else tells it

    def _timely(self, ask: Ask, routed: Routed) -> None:
        """Raises Overloaded if none of the experts can answer in time, by what is known of their queues."""
        now = loop_time()
        lanes = {expert: self._calls.lane(expert) for expert in routed.route.experts}
        expert, lane = min(lanes.items(), key=lambda one: one[1].wait_s(now))
        who = f"the request to {expert!r}"
        self._admission.check(lane.wait_s(now), lane.fast_s, ask.deadline - time.time(), who)

    async def _routed(self, ask: Ask) -> Routed:
        """Raises as `Routing.route` does."""
        span = ask.span.child(names.ROUTE)
        try:
            routed = await self._routing.route(ask)
            route = routed.route
            span.set(
                {
                    names.ROUTER: route.router,
                    names.CATEGORY: route.category,
                    names.MARGIN: route.margin,
                    names.EXPERTS: route.experts,
                    names.CANDIDATES: len(routed.candidates),
                }
            )
            return routed
        except Exception as error:
            span.fail(from_exception(error).cause)
            span.excuse(CALLERS_FAULTS)
            raise
        finally:
            span.end()

    # Answer

    def _answer(self, ask: Ask, routed: Routed, ledger: Ledger) -> AsyncGenerator[Delta | Answered | Failure, None]:
        if len(routed.route.experts) == 1:
            expert = routed.route.experts[0]
            return many(expert, ledger, ask) if ask.n > 1 or ask.texts else one(expert, ledger)
        ensemble = self.ensembles.get(ask.model)
        aggregator = ensemble.aggregator if ensemble else self.aggregators[routed.route.aggregator]
        return several(aggregator, request_of(ask, routed), ledger)


def _circuit_value(states: ExpertStates, expert: str) -> float:
    return {"closed": 0.0, "half_open": 1.0, "open": 2.0}.get(states.circuit(expert) or "closed", 0.0)


def not_ready(registry: Registry, stats: Mapping[str, WorkerStats | str]) -> dict[str, str]:
    """Expert -> why it cannot answer, for those that cannot."""
    reasons = {}
    for spec in registry:
        worker = stats.get(spec.family_name, "the worker of its family does not run")
        tier = worker if isinstance(worker, str) else worker.tiers.get(spec.name, "not loaded yet")
        if tier not in READY_TIERS:
            reasons[spec.name] = tier
    return reasons
