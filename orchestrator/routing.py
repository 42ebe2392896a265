"""Step 2 of a request, who answers it: the router and policies of its key, on what is known of the service."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aggregators.base import Aggregator
from experts.registry import Registry, UnknownExpert
from experts.spec import ExpertSpec
from orchestrator.access.estimate import most_used
from orchestrator.access.grant import EVERYTHING, Grant
from orchestrator.access.quota import Use
from orchestrator.ensembles import Ensemble, Ensembles, UnknownEnsemble, find, is_ensemble
from orchestrator.events import AUTO, Answered, Ask, Routed
from orchestrator.expert_states import ExpertStates
from orchestrator.metrics import Metrics
from orchestrator.spending import Plan, within
from orchestrator.turns import Turns, conversation_of
from routers.ask import ask as text_of
from routers.base import Choice, NoCandidate, Route, Router
from routers.policies import constraints
from routers.policies.base import Excluded, Need, State, Wish
from routers.policies.budget import NO_BOUND
from routers.policies.policy_set import Decision, PolicySet

QUICK_CHARACTERS = 2000
"""Of a prompt that a quick router decides on in the event loop: a thread costs more, and the lock of the interpreter
comes back from it late."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """How the requests of an API key are routed.

    experts: that the key may use; None = all. turns: who answered the last turns; None = it is not kept.
    is_quick: the router decides on a short prompt in less time than a thread takes to be handed it.
    """

    router: Router
    policies: PolicySet = field(default_factory=PolicySet)
    turns: Turns | None = None
    experts: frozenset[str] | None = None
    is_quick: bool = False


@dataclass(frozen=True, slots=True)
class _Matter:
    """A request for the router, with all that its decision depends on. aggregator: that it, or its ensemble, names."""

    ask: Ask
    tenant: Tenant
    ensemble: Ensemble | None
    aggregator: str | None
    state: State
    wish: Wish
    prompt: str
    specs: tuple[ExpertSpec, ...]


class Deciding:
    """What can be decided without the service: it knows nothing of what is loaded or down, and may be pickled.

    others: name or id of an API key -> how its requests are routed; an id comes before a name.
    """

    def __init__(
        self,
        default: Tenant,
        others: Mapping[str, Tenant],
        registry: Registry,
        aggregators: Mapping[str, Aggregator],
        ensembles: Ensembles,
    ) -> None:
        self._default, self._others, self._registry = default, others, registry
        self.aggregators, self.every_ensemble = aggregators, ensembles

    def route_many(self, asks: Sequence[Ask], *, brief: bool = False) -> list[Routed | Exception]:
        """The decisions for many requests of one caller, as if nothing were known of the service; what `route` would
        raise is in its place. brief: who answers, and no more than that. It blocks: for another thread."""
        found: dict[int, Routed | Exception] = {}
        waiting: list[tuple[int, _Matter]] = []
        specs = self._specs(asks[0].grant) if asks else ()
        for i, ask in enumerate(asks):
            tenant = self._tenant(ask)
            try:
                ensemble = self._ensemble(ask)
                if ensemble is None and ask.model != AUTO:
                    found[i] = self._named(ask, tenant, time.perf_counter())
                    continue
                matter = self._matter(ask, tenant, ensemble, State(), specs)
                if matter.wish.budget == NO_BOUND:
                    waiting.append((i, matter))
                else:
                    began = time.perf_counter()
                    found[i] = self._routed(matter, self._within(matter), time.perf_counter() - began)
            except (NoCandidate, UnknownExpert, UnknownEnsemble) as error:
                found[i] = error
        if waiting:
            # Of one caller, so of one tenant and scope.
            one, began = waiting[0][1], time.perf_counter()
            prompts, wishes = [own.prompt for _, own in waiting], [own.wish for _, own in waiting]
            decisions = one.tenant.policies.decide_many(one.tenant.router, prompts, one.specs, wishes, brief=brief)
            seconds = (time.perf_counter() - began) / len(waiting)
            for (i, matter), decision in zip(waiting, decisions, strict=True):
                if isinstance(decision, Decision):
                    found[i] = self._routed(matter, Plan(decision), seconds, brief=brief)
                else:
                    found[i] = decision
        return [found[i] for i in range(len(asks))]

    def _specs(self, grant: Grant) -> tuple[ExpertSpec, ...]:
        return tuple(spec for spec in self._registry if grant.may_ask(spec.name))

    def _matter(
        self, ask: Ask, tenant: Tenant, ensemble: Ensemble | None, state: State, specs: tuple[ExpertSpec, ...]
    ) -> "_Matter":
        aggregator = ask.aggregator if ensemble is None else ensemble.aggregator.name
        return _Matter(
            ask, tenant, ensemble, aggregator, state, _wish(ask, tenant, ensemble), text_of(ask.messages), specs
        )

    def _within(self, matter: "_Matter") -> Plan:
        """The decision, within the request's budget."""

        def decide(wish: Wish) -> Decision:
            tenant = matter.tenant
            return tenant.policies.decide(tenant.router, matter.prompt, matter.specs, wish, matter.state)

        def own_calls(route: Route) -> int:
            ensemble = matter.ensemble
            maker = ensemble.aggregator if ensemble else self.aggregators[matter.aggregator or route.aggregator]
            return maker.calls(len(route.choices))

        return within(matter.wish, own_calls, decide, self._registry)

    def _routed(self, matter: "_Matter", plan: Plan, seconds: float, *, brief: bool = False) -> Routed:
        ask, aggregator, wish = matter.ask, matter.aggregator, matter.wish
        decision, route = plan.decision, plan.decision.route
        if aggregator is not None and len(route.choices) > 1:
            route = replace(route, aggregator=aggregator)
        writer = self._writer(matter.ensemble, ask.wish.allow, wish, matter.state)
        if brief:
            return Routed(ask.request_id, route, seconds, decision.candidates, budget=wish.budget, writer=writer)
        removed = {name: f"{reason.rule}: {reason.why}" for name, reason in decision.removed.items()}
        notes = tuple(filter(None, (plan.note, _few(route, wish, aggregator))))
        return Routed(ask.request_id, route, seconds, decision.candidates, removed, notes, wish.budget, writer)

    def experts(self, caller: str, caller_name: str, grant: Grant = EVERYTHING) -> tuple[str, ...]:
        """Names of the experts that this API key may use, in the registry's order."""
        own = self._of_key(caller, caller_name).experts
        return tuple(name for name in self._registry.names if (own is None or name in own) and grant.may_ask(name))

    def ensembles(self, grant: Grant) -> Ensembles:
        """Those that the API key may use."""
        return {name: ensemble for name, ensemble in self.every_ensemble.items() if grant.may_use(name)}

    def most_used(self, ask: Ask) -> Use:
        """What the request may use at most. Raises UnknownExpert, UnknownEnsemble."""
        ensemble = self._ensemble(ask)
        if ensemble is None and ask.model != AUTO:
            return most_used([self._own(ask)], _read_each(ask), ask.sampling.max_tokens, ask.n, 0, ask.wish.budget)
        specs = [self._registry.get(name) for name in self.experts(ask.caller, ask.caller_name, ask.grant)]
        if ensemble is not None:
            drafts, budget, own = ensemble.k, ask.wish.budget.within(ensemble.budget), ensemble.aggregator.calls
            return most_used(specs, prompt_tokens(ask), ask.sampling.max_tokens, drafts, own(drafts), budget)
        if ask.is_for_one:
            return most_used(specs, _read_each(ask), ask.sampling.max_tokens, ask.n, 0, ask.wish.budget)
        drafts = ask.k or self._tenant(ask).policies.k
        makers = [self.aggregators[ask.aggregator]] if ask.aggregator else self.aggregators.values()
        own_calls = max((maker.calls(drafts) for maker in makers), default=0) if drafts > 1 else 0
        return most_used(specs, prompt_tokens(ask), ask.sampling.max_tokens, drafts, own_calls, ask.wish.budget)

    def _tenant(self, ask: Ask) -> Tenant:
        return self._of_key(ask.caller, ask.caller_name)

    def _of_key(self, caller: str, caller_name: str) -> Tenant:
        return self._others.get(caller) or self._others.get(caller_name) or self._default

    def _named(self, ask: Ask, tenant: Tenant, began: float) -> Routed:
        """The caller has decided; only its key may stand against it."""
        expert = self._own(ask).name
        if tenant.experts is not None and expert not in tenant.experts:
            raise Excluded(
                f"this API key may not use the expert {expert!r}; 'auto' chooses among those that it may use"
            )
        if _needs(ask) and not self._registry.get(expert).tools:
            others = any(self._registry.get(name).tools for name in self._registry.names)
            who = "'auto' chooses among those that do" if others else "nor does any other here"
            raise Excluded(f"the expert {expert!r} calls no tools; {who}")
        route = Route((Choice(expert, 1.0),), reason="the caller named this expert", router="named")
        return Routed(ask.request_id, route, time.perf_counter() - began, self._registry.names)

    def _own(self, ask: Ask) -> ExpertSpec:
        """The expert that the caller named. One outside of the scopes of its key is as unknown as one that is not.

        Raises UnknownExpert.
        """
        if ask.model not in self._registry or not ask.grant.may_ask(ask.model):
            raise UnknownExpert(ask.model, self.experts(ask.caller, ask.caller_name, ask.grant))
        return self._registry.get(ask.model)

    def _ensemble(self, ask: Ask) -> Ensemble | None:
        """Raises UnknownEnsemble, also for one outside of the scopes of the key."""
        if not self.every_ensemble and not is_ensemble(ask.model):
            return None
        experts = [name for name in self._registry.names if ask.grant.may_ask(name)]
        return find(ask.model, self.ensembles(ask.grant), experts)

    def _writer(self, ensemble: Ensemble | None, allow: frozenset[str] | None, wish: Wish, state: State) -> str | None:
        """Who judges and writes for an ensemble without a seat in it, if the request's own constraints allow it and it
        can answer."""
        if ensemble is None or ensemble.expert is None or ensemble.expert in {**state.failed, **state.doubtful}:
            return None
        allowed, _ = constraints.keep([self._registry.get(ensemble.expert)], replace(wish, allow=allow))
        return next(iter(allowed), None)


class Routing(Deciding):
    """The same with what is known of the service."""

    def __init__(
        self,
        default: Tenant,
        others: Mapping[str, Tenant],
        registry: Registry,
        states: ExpertStates,
        metrics: Metrics,
        aggregators: Mapping[str, Aggregator],
        ensembles: Ensembles,
    ) -> None:
        super().__init__(default, others, registry, aggregators, ensembles)
        self.states = states
        self._metrics = metrics

    def deciding(self) -> Deciding:
        """Without what belongs to this process."""
        others = {name: replace(tenant, turns=None) for name, tenant in self._others.items()}
        default = replace(self._default, turns=None)
        return Deciding(default, others, self._registry, self.aggregators, self.every_ensemble)

    async def route(self, ask: Ask) -> Routed:
        """Raises UnknownExpert, UnknownEnsemble, Excluded, NoCandidate, and TimeoutError if there is no route by the
        deadline."""
        began, tenant = time.perf_counter(), self._tenant(ask)
        ensemble = self._ensemble(ask)
        if ensemble is None and ask.model != AUTO:
            return self._named(ask, tenant, began)
        async with until(ask.deadline):
            state = replace(await self.states.known(), last=None if ensemble else await self._last(ask, tenant))
            matter = self._matter(ask, tenant, ensemble, state, self._specs(ask.grant))
            if tenant.is_quick and len(matter.prompt) <= QUICK_CHARACTERS:
                plan = self._within(matter)
            else:
                plan = await asyncio.to_thread(self._within, matter)
        seconds = time.perf_counter() - began
        self._metrics.router.observe(seconds)
        return self._routed(matter, plan, seconds)

    def answered(self, ask: Ask, routed: Routed, answer: Answered) -> None:
        """The expert of this turn, of several the best that took part, may stay for the next one."""
        turns = self._tenant(ask).turns
        if turns is not None and ask.model == AUTO:
            taken = next((name for name in routed.route.experts if name in answer.used), None)
            turns.keep(conversation_of(ask)[0], answer.winner or taken or routed.route.experts[0])

    async def drain(self) -> None:
        """Waits for what is under way in the background."""
        await self.states.drain()
        for tenant in (self._default, *self._others.values()):
            if tenant.turns is not None:
                await tenant.turns.drain()

    async def _last(self, ask: Ask, tenant: Tenant) -> str | None:
        if tenant.turns is None:
            return None
        conversation, goes_on = conversation_of(ask)
        return await tenant.turns.last(conversation) if goes_on else None


def _wish(ask: Ask, tenant: Tenant, ensemble: Ensemble | None) -> Wish:
    """What the request asks for in so many words, and what it, its ensemble and its key imply."""
    said = [message["content"] for message in ask.messages if message["role"] == "user"]
    tokens = prompt_tokens(ask)
    earlier = "\n".join(reversed(said[:-1]))
    needs = frozenset((*ask.wish.needs, *_needs(ask)))
    wish = replace(
        ask.wish,
        k=1 if ask.is_for_one else ask.k,
        needs=needs,
        earlier=earlier,
        tokens=tokens + (ask.sampling.max_tokens or 1),
        answer=ask.sampling.max_tokens,
        tenant=_both(tenant.experts, ask.grant.experts),
    )
    if ensemble is None:
        return wish
    allow = wish.allow
    if ensemble.experts is not None:
        seats = frozenset(ensemble.experts)
        allow = seats if allow is None else seats & allow
    return replace(wish, k=ensemble.k, allow=allow, budget=wish.budget.within(ensemble.budget))


def _needs(ask: Ask) -> tuple[Need, ...]:
    """What its tools imply."""
    return ("tools",) if ask.tools is not None and ask.tools.choice != "none" else ()


def prompt_tokens(ask: Ask) -> int:
    """Estimate of what a call for an answer has at most: all messages, or the longest text."""
    if ask.texts:
        return max(constraints.estimated_tokens((text,)) for text in ask.texts)
    return constraints.estimated_tokens(message["content"] for message in ask.messages)


def _read_each(ask: Ask) -> int:
    """The same of the calls for all answers, in the mean."""
    if not ask.texts:
        return prompt_tokens(ask)
    return -(-sum(constraints.estimated_tokens((text,)) for text in ask.texts) // len(ask.texts))


def _both(tenant: frozenset[str] | None, scope: tuple[str, ...] | None) -> frozenset[str] | None:
    if scope is None:
        return tenant
    return frozenset(scope) if tenant is None else tenant & frozenset(scope)


def _few(route: Route, wish: Wish, aggregator: str | None) -> str:
    """What the caller must know where fewer experts answer than were asked for."""
    asked = len(route.choices)
    if asked == 1 and aggregator not in (None, "single"):
        return f"one expert answers, so there is nothing for {aggregator} to do"
    few = wish.k is not None and asked < wish.k and wish.budget == NO_BOUND
    return f"{asked} experts answer, not {wish.k}: no others may or can" if few else ""


def until(deadline: float) -> asyncio.Timeout:
    """Raises TimeoutError in the block at `deadline` (Unix time in seconds, may be infinite)."""
    return asyncio.timeout(None if deadline == float("inf") else max(0.0, deadline - time.time()))
