"""A fitted router: two-level, skill, both together and best single expert, and which of them answers by default.

from routers.fitted import fit
router = fit(prompts, {"expert-a": scores, "expert-b": scores}, categories=categories)
router.route("some prompt").experts
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from routers.base import Route, Router
from routers.best_single import BestSingle
from routers.encoders.base import Encoder, Progress
from routers.encoders.embedded import Embedded
from routers.encoders.minilm import MiniLMEncoder
from routers.evaluation.decisions import Floats, Model, Predictor
from routers.fitted_choice import all_models, by_cross_validation, models, single
from routers.fitted_file import Facts, ModelName, digests, is_fitted_router, read, write
from routers.folder import same_encoder
from routers.labelled.data import Labelled
from routers.labelled.replay import Normalise

__all__ = ["FittedRouter", "fit", "fit_labelled", "open_router"]


class FittedRouter:
    """Implements `routers.base.Router` and `routers.evaluation.decisions.Predictor`.

    Made by `fit`, `fit_labelled` or `load`. One expert per request: the model `facts.default` decides, several:
    `facts.several`. Both were chosen by cross-validation on the fitted prompts; where no gain over the best single
    expert showed, that one answers.
    """

    name = "fitted"

    def __init__(
        self,
        fitted: Mapping[ModelName, Model],
        facts: Facts,
        seen: NDArray[np.uint64],
        encoder: Encoder,
        aggregator: str = "vote",
    ) -> None:
        """fitted: the models of `MODELS`, which use `encoder`; seen: digests of the fitted prompts.
        aggregator: what makes one answer of the drafts when a route has several choices.
        """
        self.facts = facts
        self.encoder = encoder
        self._fitted = fitted
        self._seen = seen
        self._aggregator = aggregator
        self.models: Mapping[ModelName, Predictor] = all_models(BestSingle(facts.experts, facts.means), fitted)

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that it was fitted on, sorted."""
        return self.facts.experts

    def route(self, prompt: str, candidates: Sequence[str] | None = None, k: int = 1) -> Route:
        """See `Router.route`; candidates: None = all experts."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str] | None = None, k: int = 1) -> list[Route]:
        """See `Router.route_many`; candidates: None = all experts."""
        allowed = self.experts if candidates is None else candidates
        routes = self._model(k).route_many(prompts, allowed, k)
        return [self._to_aggregate(route) for route in routes]

    def _to_aggregate(self, route: Route) -> Route:
        aggregator = self._aggregator if len(route.choices) > 1 else "single"
        return replace(route, aggregator=aggregator, patience=self.facts.chosen.patience)

    def predict(self, prompts: Sequence[str]) -> Floats:
        """(n, E), what the default model expects each expert to score, in [0, 1]."""
        return self._model(1).predict(prompts)

    def explain(self, prompt: str) -> str:
        """Why the default model routes `prompt` as it does, in one line for people."""
        return self._model(1).explain(prompt)

    def _model(self, k: int) -> Predictor:
        return self.models[self.facts.default if k == 1 else self.facts.several]

    def seen(self, prompts: tuple[str, ...]) -> NDArray[np.bool_]:
        """(n,): was the router fitted on this prompt?"""
        return np.isin(digests(prompts), self._seen)

    def save(self, folder: Path) -> None:
        """Writes the router into `folder`, which is made if need be; a router that is there already is replaced."""
        write(folder, self.facts, self._seen, self._fitted)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None = None, aggregator: str = "vote") -> Self:
        """The router that `save` wrote. encoder: None = the one that it was fitted with, if that is MiniLM.

        Raises RouterFileError, EncoderUnavailable.
        """
        facts, seen = read(folder)
        if encoder is None and facts.encoder == MiniLMEncoder.name:
            encoder = MiniLMEncoder()
        encoder = same_encoder(folder, facts, encoder)
        fitted = {name: model.load(folder / name, encoder) for name, model in models().items()}
        return cls(fitted, facts, seen, encoder, aggregator)


def open_router(folder: Path, encoder: Encoder, aggregator: str = "vote") -> Router:
    """The router in a folder: one that `FittedRouter.save` wrote, or a two-level router alone.

    Raises RouterFileError.
    """
    if is_fitted_router(folder):
        return FittedRouter.load(folder, encoder, aggregator)
    from routers.two_level.router import TwoLevelRouter

    return TwoLevelRouter.load(folder, encoder, aggregator)


def fit(
    prompts: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    *,
    categories: Sequence[str] | None = None,
    costs: Mapping[str, Sequence[float]] | None = None,
    answers: Mapping[str, Sequence[str | None]] | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
    normalise: Normalise = str.strip,
    on_progress: Progress | None = None,
) -> FittedRouter:
    """A router for prompts like these.

    prompts: n texts. scores, costs, answers: expert -> n values; scores are in [0, 1], nan = not measured.
    encoder: None = all-MiniLM-L6-v2. For the rest see `fit_labelled`.
    Raises ValueError.
    """
    experts = tuple(sorted(scores))
    for name, table in (("scores", scores), ("costs", costs or {}), ("answers", answers or {})):
        for expert, column in table.items():
            if expert not in scores:
                raise ValueError(f"{name} has an expert {expert!r} who is not in scores")
            if len(column) != len(prompts):
                raise ValueError(f"{name} of {expert!r}: got {len(column)} values for {len(prompts)} prompts")
    if categories is not None and len(categories) != len(prompts):
        raise ValueError(f"every prompt needs a category; got {len(prompts)} prompts and {len(categories)} categories")
    matrix = _columns(scores, experts, len(prompts))
    if wrong := matrix[(matrix < 0) | (matrix > 1)].tolist():
        raise ValueError(f"a score must be in [0, 1], or nan where there is none; got {wrong[0]:g}")
    given = None
    if answers is not None:
        given = np.full(matrix.shape, None, object)
        for expert, texts in answers.items():
            given[:, experts.index(expert)] = list(texts)
    data = Labelled(
        ids=tuple(map(str, range(len(prompts)))),
        prompts=tuple(prompts),
        experts=experts,
        scores=matrix,
        categories=None if categories is None else tuple(categories),
        costs=None if costs is None else _columns(costs, experts, len(prompts)),
        answers=given,
    )
    return fit_labelled(data, encoder or MiniLMEncoder(), seed=seed, normalise=normalise, on_progress=on_progress)


def _columns(table: Mapping[str, Sequence[float]], experts: Sequence[str], n: int) -> Floats:
    matrix = np.full((n, len(experts)), np.nan)
    for expert, values in table.items():
        matrix[:, experts.index(expert)] = values
    return matrix


def fit_labelled(
    data: Labelled,
    encoder: Encoder,
    *,
    seed: int = 0,
    normalise: Normalise = str.strip,
    on_progress: Progress | None = None,
) -> FittedRouter:
    """Fits both models on all of `data`, after cross-validation on it chose which of them is the default.

    seed: the same data, encoder and seed give the same router. normalise: what of an answer counts in a vote.
    on_progress: gets (what, done, of).
    Raises ValueError if there are fewer than two experts, or too few prompts.
    """
    if len(data.experts) < 2:
        raise ValueError(f"a router chooses between two experts at least; got {', '.join(data.experts) or 'none'}")
    known = Embedded(encoder, data.prompts, on_progress)
    chosen, default, several, fitted = by_cross_validation(data, known, seed, normalise, on_progress)
    facts = Facts(
        encoder=encoder.name,
        dim=encoder.dim,
        experts=data.experts,
        means=tuple(single(data).means),
        costs=_mean_costs(data),
        quality=_quality(data),
        default=default,
        several=several,
        chosen=chosen,
        prompts=len(data),
        seed=seed,
    )
    return FittedRouter(fitted, facts, np.unique(digests(data.prompts)), known)


def _mean_costs(data: Labelled) -> tuple[float | None, ...]:
    if data.costs is None:
        return (None,) * len(data.experts)
    known = ~np.isnan(data.costs)
    return tuple(
        float(column[there].mean()) if there.any() else None
        for column, there in zip(data.costs.T, known.T, strict=True)
    )


def _quality(data: Labelled) -> dict[str, tuple[tuple[float, int], ...]]:
    quality = {}
    for category in sorted(set(data.categories or ())):
        part = data.rows([i for i, own in enumerate(data.categories or ()) if own == category])
        means, counts = np.nan_to_num(part.means()), part.measured.sum(axis=0)
        quality[category] = tuple(zip(means.tolist(), counts.tolist(), strict=True))
    return quality
