"""Routers whose scores a test makes up, one that predicts them and one that does not, and experts for them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experts.spec import ExpertSpec
from routers.base import Choice, NoCandidate, Route


def expert(name: str, **fields: object) -> ExpertSpec:
    return ExpertSpec.model_validate({"name": name, "source": f"./{name}", **fields})


def pool(*names: str) -> tuple[ExpertSpec, ...]:
    return tuple(expert(name) for name in names)


class Ranked:
    """Ranks candidates by fixed scores, whatever the prompt; weights are shares of the scores. No `predict`."""

    name = "ranked"

    def __init__(self, scores: Mapping[str, float], first: str | None = None, aggregator: str = "vote") -> None:
        """first: goes before all others, as a plan or a fallback would have it."""
        self.scores, self.first, self.aggregator = dict(scores), first, aggregator
        self.asked: list[tuple[str, ...]] = []

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        if not candidates:
            raise NoCandidate("nobody is left")
        self.asked.append(tuple(candidates))
        ranked = sorted(candidates, key=lambda name: (name != self.first, -self.scores.get(name, 0.0)))[:k]
        values = [self.scores.get(name, 0.0) for name in ranked]
        total = sum(values)
        weights = [value / total if total else 1 / len(ranked) for value in values]
        return Route(
            tuple(Choice(name, weight) for name, weight in zip(ranked, weights, strict=True)),
            f"{ranked[0]} ranks first",
            self.name,
            category="all",
            aggregator=self.aggregator if len(ranked) > 1 else "single",
            skills={f"skill of {ranked[0]}": 2.0},
        )

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        return [self.route(prompt, candidates, k) for prompt in prompts]


class Scored(Ranked):
    """The same, and says what it expects of each expert."""

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(sorted(self.scores))

    def predict(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([[self.scores[name] for name in self.experts]] * len(prompts))
