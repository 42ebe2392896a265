"""Policies composed around a router, in this order:

    constraints -> outage -> router -> load price -> conversation -> number -> forced experts

Where no policy after the router has anything to say, the route is exactly the router's own for these candidates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from experts.spec import ExpertSpec
from routers.base import Choice, Firsts, Route, Router
from routers.policies import constraints, outage
from routers.policies.base import Excluded, Floats, Removed, Slate, State, Wish
from routers.policies.conversation import Stay
from routers.policies.language import detect
from routers.policies.load_price import LoadPrice
from routers.policies.number import Number, probabilities

_NOTHING, _WELL = Wish(), State()


@runtime_checkable
class Predicts(Protocol):
    """A router that can say how good each expert is expected to be."""

    @property
    def experts(self) -> tuple[str, ...]: ...

    def predict(self, prompts: Sequence[str]) -> Floats:
        """(n, E) expected score of each expert, in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """A route, the candidates that it was chosen from, and expert -> why it was none."""

    route: Route
    candidates: tuple[str, ...]
    removed: dict[str, Removed]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What is decided around a router. By default the constraints that a request itself implies, and outages.

    k: experts that answer a request that does not say how many; with `number` the most that do.
    number: how many of these k; None = all. sharpness: see `number.probabilities`.
    language: exclude experts that do not speak the prompt's language, where it can be told and somebody speaks it.
    price, stay: see there; None = off.
    """

    k: int = 1
    number: Number | None = None
    sharpness: float = 2.0
    language: bool = True
    price: LoadPrice | None = None
    stay: Stay | None = None

    def decide(
        self, router: Router, prompt: str, specs: Iterable[ExpertSpec], wish: Wish = _NOTHING, state: State = _WELL
    ) -> Decision:
        """The route of one request. specs: every expert of the service.

        Raises Excluded if constraints leave nobody, NoCandidate if those that are left cannot answer now.
        """
        allowed, removed = self._allowed(prompt, constraints.Keeper(specs), wish)
        candidates, away = outage.mask(allowed, state, wish.force)
        removed |= away
        if self._is_plain(wish, state):
            route = router.route(prompt, candidates, wish.k or self.k)
        else:
            route = self._weighed(router, prompt, candidates, wish, state)
        return Decision(route, candidates, removed)

    def decide_many(
        self,
        router: Router,
        prompts: Sequence[str],
        specs: Iterable[ExpertSpec],
        wishes: Sequence[Wish],
        *,
        brief: bool = False,
    ) -> list[Decision | Excluded]:
        """The same of many requests, where nothing is known of the service; what would be raised is in its place.

        brief: of a request that one expert answers, who that is, and no more.
        """
        specs = tuple(specs)
        keep = constraints.Keeper(specs)
        decisions: dict[int, Decision | Excluded] = {}
        alike: dict[tuple[tuple[str, ...], int], list[tuple[int, dict[str, Removed]]]] = {}
        for i, (prompt, wish) in enumerate(zip(prompts, wishes, strict=True)):
            try:
                if self._is_plain(wish, _WELL):
                    allowed, removed = self._allowed(prompt, keep, wish)
                    alike.setdefault((allowed, wish.k or self.k), []).append((i, removed))
                else:
                    decisions[i] = self.decide(router, prompt, specs, wish)
            except Excluded as error:
                decisions[i] = error
        for (candidates, k), those in alike.items():
            own = [prompts[i] for i, _ in those]
            if brief and k == 1 and isinstance(router, Firsts):
                only = {name: Route((Choice(name, 1.0),), "", router.name) for name in candidates}
                routes = [only[name] for name in router.first_many(own, candidates)]
            else:
                routes = router.route_many(own, candidates, k)
            for (i, removed), route in zip(those, routes, strict=True):
                decisions[i] = Decision(route, candidates, removed)
        return [decisions[i] for i in range(len(prompts))]

    def _allowed(self, prompt: str, keep: constraints.Keeper, wish: Wish) -> constraints.Kept:
        """(who may answer, expert -> why it may not). Raises Excluded if nobody may."""
        allowed, removed = keep(wish, self._languages(prompt, keep, wish))
        if not allowed and wish.languages is None:  # nobody speaks the prompt's language: they answer as they can
            allowed, removed = keep(wish, None)
        constraints.check(allowed, removed, wish)
        return allowed, removed

    def _languages(self, prompt: str, keep: constraints.Keeper, wish: Wish) -> tuple[str, ...] | None:
        """Those that the request asks for, else the prompt's; not looked at where it makes no difference."""
        if wish.languages is not None or not self.language or not keep.knows_languages:
            return wish.languages
        return detect(prompt) or detect(wish.earlier)

    def _is_plain(self, wish: Wish, state: State) -> bool:
        """Has no policy after the router anything to say?"""
        counts = self.number is not None and wish.k is None
        stays = self.stay is not None and state.last is not None
        pays = self.price is not None and bool(state.load_s)
        return not (counts or stays or pays or wish.force)

    def _weighed(self, router: Router, prompt: str, candidates: Sequence[str], wish: Wish, state: State) -> Route:
        own, ranked = _ranked(router, prompt, candidates, wish.k or self.k)
        slate = self.price(ranked, state) if self.price else ranked
        slate = self.stay(slate, state) if self.stay else slate
        k = min(wish.k or self.k, len(candidates))
        if self.number is not None and wish.k is None:
            falling = Slate.ranked(slate.experts, slate.scores).scores
            k = min(k, self.number(probabilities(falling, self.sharpness)))
        k = max(k, len(wish.force))
        wanted = (*wish.force, *(name for name in slate.experts if name not in wish.force))[:k]
        notes = slate.notes
        if wish.force:
            notes = (*notes, f"the request asks for {', '.join(wish.force)}")
        if wanted == slate.experts[:k] == ranked.experts[:k]:
            return _with_notes(own if k == len(own.choices) else router.route(prompt, candidates, k), notes)
        chosen = router.route(prompt, wanted, k)
        weights = {choice.expert: choice.weight for choice in chosen.choices}
        choices = tuple(Choice(name, weights[name]) for name in wanted)
        skills = next((route.skills for route in (own, chosen) if route.experts[0] == wanted[0]), {})
        return _with_notes(replace(own, choices=choices, aggregator=chosen.aggregator, skills=skills), notes)


def _ranked(router: Router, prompt: str, candidates: Sequence[str], k: int) -> tuple[Route, Slate]:
    """The router's own route for k, and all candidates: those of the route in its order, then the others by score."""
    own = router.route(prompt, candidates, k)
    scores = _scores(router, prompt, candidates)
    others = [name for name in candidates if name not in own.experts]
    experts = (*own.experts, *sorted(others, key=lambda name: -scores[name]))
    return own, Slate.ranked(experts, np.array([scores[name] for name in experts]))


def _scores(router: Router, prompt: str, candidates: Sequence[str]) -> dict[str, float]:
    """Candidate -> its expected score; 0 for a candidate that the router has not measured: nothing speaks for it.

    Of a router that predicts nothing, the weights of a route through all candidates.
    """
    if not isinstance(router, Predicts):
        every = router.route(prompt, candidates, len(candidates))
        return {choice.expert: choice.weight for choice in every.choices}
    row = router.predict([prompt])[0]
    known = dict(zip(router.experts, row.tolist(), strict=True))
    return {name: known.get(name, 0.0) for name in candidates}


def _with_notes(route: Route, notes: Sequence[str]) -> Route:
    return replace(route, reason="; ".join((route.reason, *notes))) if notes else route
