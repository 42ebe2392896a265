"""What routers decide on labelled prompts, and what each decision scores there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from routers.base import Route, Router
from routers.encoders.base import Encoder
from routers.labelled.data import Labelled
from routers.labelled.replay import Normalise, coded, winners

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

VOTES = (3, 5)
"""Numbers of experts whose votes are replayed."""


class Predictor(Router, Protocol):
    """A router that also says what it expects of each expert."""

    @property
    def experts(self) -> tuple[str, ...]:
        """Names, sorted."""
        ...

    def predict(self, prompts: Sequence[str]) -> Floats:
        """(n, E), the expected score of each expert in [0, 1]."""
        ...

    def explain(self, prompt: str) -> str:
        """Why the route is what it is, in one line for people."""
        ...


class Scoring(Predictor, Protocol):
    """A router that says both at once."""

    def route_scored(self, prompts: Sequence[str], candidates: Sequence[str], k: int) -> tuple[list[Route], Floats]:
        """`route_many` and `predict` for the price of one."""
        ...


class Model(Scoring, Protocol):
    """A router that is fitted on labelled prompts and lives in a folder."""

    @classmethod
    def fit_labelled(cls, data: Labelled, encoder: Encoder, *, seed: int = 0) -> Self:
        """`data` is all that it may see. Raises ValueError if that is too little."""
        ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Self: ...


@dataclass(frozen=True, slots=True)
class Decided:
    """What one router decided on n labelled prompts; experts are columns of the labelled data.

    chosen: (n,), the first choice. predicted: (n, E). categories: (n,), where the router has some.
    asked, weights, voted: k -> the k choices (n, k), their weights (n, k) and the winner (n,) of the vote; empty
        without answers.
    """

    chosen: Indices
    predicted: Floats
    categories: tuple[str | None, ...]
    asked: Mapping[int, Indices]
    weights: Mapping[int, Floats]
    voted: Mapping[int, Indices]

    @classmethod
    def joined(cls, parts: Sequence[tuple[Indices, "Decided"]]) -> "Decided":
        """Parts of the same prompts as one: (places, what was decided there), as cross-validation gives them."""
        order = np.argsort(np.concatenate([at for at, _ in parts]))
        decided = [part for _, part in parts]
        categories = [category for part in decided for category in part.categories]
        return cls(
            chosen=np.concatenate([part.chosen for part in decided])[order],
            predicted=np.concatenate([part.predicted for part in decided])[order],
            categories=tuple(categories[i] for i in order),
            asked={k: np.concatenate([part.asked[k] for part in decided])[order] for k in decided[0].asked},
            weights={k: np.concatenate([part.weights[k] for part in decided])[order] for k in decided[0].weights},
            voted={k: np.concatenate([part.voted[k] for part in decided])[order] for k in decided[0].voted},
        )


def decide(
    router: Predictor, data: Labelled, normalise: Normalise = str.strip, sizes: Sequence[int] = VOTES
) -> Decided:
    """What `router` chooses on the prompts of `data`, among the experts that were measured on each.

    normalise: what of an answer is counted in a vote. sizes: numbers of experts whose votes are replayed.
    Raises ValueError if the router knows other experts than `data` has.
    """
    if router.experts != data.experts:
        raise ValueError(
            f"the router knows {', '.join(router.experts)}; the labelled prompts have {', '.join(data.experts)}"
        )
    routed = _Routed(router, data)
    first, _, categories = routed.choices(1)
    asked: dict[int, Indices] = {}
    weights: dict[int, Floats] = {}
    voted: dict[int, Indices] = {}
    if data.answers is not None:
        codes = coded(data.answers, normalise)
        for k in sizes:
            if k <= len(data.experts):
                asked[k], weights[k], _ = routed.choices(k)
                voted[k] = winners(codes, asked[k], weights[k])
    return Decided(first[:, 0], router.predict(data.prompts), categories, asked, weights, voted)


class _Routed:
    """Routes of all prompts, each among the experts that were measured on it."""

    def __init__(self, router: Router, data: Labelled) -> None:
        self._router, self._data = router, data
        self._patterns, inverse = np.unique(data.measured, axis=0, return_inverse=True)
        self._pattern_of = inverse.reshape(-1)
        self._columns = {expert: place for place, expert in enumerate(data.experts)}

    def choices(self, k: int) -> tuple[Indices, Floats, tuple[str | None, ...]]:
        """Choices (n, k), their weights (n, k) and the categories (n,).

        Where fewer than k experts were measured, the first choice fills up with weight 0.
        """
        n = len(self._data)
        chosen, weights = np.zeros((n, k), np.intp), np.zeros((n, k))
        categories: list[str | None] = [None] * n
        for number, pattern in enumerate(self._patterns):
            at = np.flatnonzero(self._pattern_of == number)
            candidates = [expert for expert, measured in zip(self._data.experts, pattern, strict=True) if measured]
            routes = self._router.route_many([self._data.prompts[i] for i in at], candidates, k)
            for i, route in zip(at, routes, strict=True):
                self._put(route, chosen[i], weights[i])
                categories[i] = route.category
        return chosen, weights, tuple(categories)

    def _put(self, route: Route, chosen: Indices, weights: Floats) -> None:
        chosen[:] = self._columns[route.choices[0].expert]
        for place, choice in enumerate(route.choices):
            chosen[place], weights[place] = self._columns[choice.expert], choice.weight


def scored(data: Labelled, chosen: Indices) -> Floats:
    """(n,), the score of each prompt's chosen expert."""
    scores: Floats = data.scores[np.arange(len(data)), chosen]
    return scores
