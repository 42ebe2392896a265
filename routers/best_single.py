"""The baseline that every router must beat: always the expert with the best mean score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routers.base import Choice, Route, distinct


class BestSingle:
    """Implements `routers.base.Router`.

    experts, means: names and mean scores in [0, 1]. Candidates are ranked by them, equal ones by their order in
    `experts`; one that was not measured comes last. The weights of several choices are their shares of the sum.
    """

    name = "best-single"

    def __init__(self, experts: Sequence[str], means: Sequence[float]) -> None:
        self.experts = tuple(experts)
        self.means = tuple(means)
        self._means = dict(zip(experts, means, strict=True))
        self._ranked = sorted(experts, key=lambda expert: -self._means[expert])

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`. Raises ValueError for k < 1."""
        allowed = distinct(candidates, k)
        known = [expert for expert in self._ranked if expert in allowed]
        chosen = (known + [expert for expert in allowed if expert not in self._means])[:k]
        least = min(self._means.values())
        values = [self._means.get(expert, least) for expert in chosen]
        total = sum(values)
        choices = tuple(
            Choice(expert, value / total if total > 0 else 1 / len(chosen))
            for expert, value in zip(chosen, values, strict=True)
        )
        route = Route(choices, self._reason(chosen), self.name, aggregator="vote" if len(chosen) > 1 else "single")
        return [route] * len(prompts)

    def predict(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """(n, E): the mean score of each expert, for every prompt."""
        return np.tile([self._means[expert] for expert in self.experts], (len(prompts), 1))

    def explain(self, prompt: str) -> str:
        """One line for people."""
        return self._reason([self._ranked[0]])

    def _reason(self, chosen: Sequence[str]) -> str:
        first = chosen[0]
        if first not in self._means:
            return f"{first}, since no candidate was measured"
        text = f"{first} is the best expert on average ({100 * self._means[first]:.1f} %)"
        return text + (f"; also asked: {', '.join(chosen[1:])}" if len(chosen) > 1 else "")
