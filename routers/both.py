"""Two routers as one: what they expect on average. Errors that they do not share cancel out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routers.base import Choice, Route
from routers.evaluation.decisions import Scoring

Floats = NDArray[np.float64]


class Both:
    """Implements `routers.evaluation.decisions.Predictor`.

    one, other: fitted on the same experts; the category of a route is that of `one`. means: the experts' overall mean
    scores, by which equals are ordered.
    One expert: the candidate with the best mean of the two expected scores. Several: both routers name k with weights,
    and the k with most weight on the whole are asked. The skills are those that speak for the first choice, whoever of
    the two would have made it.
    """

    name = "both"

    def __init__(self, one: Scoring, other: Scoring, means: Sequence[float]) -> None:
        """Raises ValueError if the two know different experts."""
        if one.experts != other.experts:
            raise ValueError(f"{one.name} and {other.name} were fitted on different experts")
        self._one, self._other = one, other
        self._ranked = np.argsort(-np.array(means), kind="stable")

    @property
    def experts(self) -> tuple[str, ...]:
        return self._one.experts

    def predict(self, prompts: Sequence[str]) -> Floats:
        """(n, E), the expected score of each expert in [0, 1]."""
        expected: Floats = (self._one.predict(prompts) + self._other.predict(prompts)) / 2
        return expected

    def explain(self, prompt: str) -> str:
        """What each of the two says, in one line."""
        return f"{self._one.name}: {self._one.explain(prompt)}; {self._other.name}: {self._other.explain(prompt)}"

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`."""
        routes, expected = self._one.route_scored(prompts, candidates, k)
        others, expected_too = self._other.route_scored(prompts, candidates, k)
        if k > 1:
            together = [self._together(route, other, k) for route, other in zip(routes, others, strict=True)]
            return self._with_skills(prompts, together, routes, others)
        allowed = set(candidates)
        ranked = [column for column in self._ranked if self.experts[column] in allowed]
        if not ranked:  # no candidate was measured
            alone = [replace(route, router=self.name) for route in routes]
            return self._with_skills(prompts, alone, routes, others)
        mean = (expected + expected_too) / 2
        best = np.array(ranked)[mean[:, ranked].argmax(axis=1)]
        single = [
            self._single(route, other, int(column), score)
            for route, other, column, score in zip(routes, others, best, mean[np.arange(len(best)), best], strict=True)
        ]
        return self._with_skills(prompts, single, routes, others)

    def _with_skills(
        self, prompts: Sequence[str], found: Sequence[Route], routes: Sequence[Route], others: Sequence[Route]
    ) -> list[Route]:
        """The routes found, each with the skills for its first choice. routes, others: what the two decided.

        Where a router with skills would have asked another one first, it is asked again with this candidate alone; the
        encoder still has the prompt's vector.
        """
        skills: list[dict[str, float]] = [{} for _ in found]
        again: dict[tuple[int, str], list[int]] = defaultdict(list)
        for i, both in enumerate(zip(found, routes, others, strict=True)):
            first = both[0].experts[0]
            for side, own in enumerate(both[1:]):
                if own.experts[0] == first:
                    skills[i] |= own.skills
                elif own.skills:
                    again[side, first].append(i)
        for (side, first), places in again.items():
            router = (self._one, self._other)[side]
            for i, own in zip(places, router.route_many([prompts[i] for i in places], [first]), strict=True):
                skills[i] |= own.skills
        return [replace(route, skills=own) for route, own in zip(found, skills, strict=True)]

    def _single(self, route: Route, other: Route, column: int, score: float) -> Route:
        first = self.experts[column]
        if route.experts == other.experts == (first,):
            reason = f"{route.reason}; {self._other.name} agrees"
        else:
            said = {self._one.name: route, self._other.name: other}
            against = " and ".join(f"{name} alone: {own.experts[0]}" for name, own in said.items())
            reason = f"{first} is expected to do best by both together ({score:.2f}; {against})"
        return replace(route, choices=(Choice(first, 1.0),), reason=reason, router=self.name)

    def _together(self, route: Route, other: Route, k: int) -> Route:
        weights: dict[str, float] = defaultdict(float)
        for choice in (*route.choices, *other.choices):
            weights[choice.expert] += choice.weight
        most = sorted(weights.items(), key=lambda item: -item[1])[:k]
        total = sum(weight for _, weight in most)
        choices = tuple(Choice(expert, weight / total) for expert, weight in most)
        names = ", ".join(choice.expert for choice in choices)
        return replace(route, choices=choices, reason=f"{names} weigh most with both routers", router=self.name)
