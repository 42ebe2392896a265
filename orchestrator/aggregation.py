"""From the configuration to aggregators: those of the service, and each ensemble with its own.

`NoProfile`   the profile that the configuration names cannot be used
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aggregators.base import Aggregator
from aggregators.registry import NAMES, build, make
from aggregators.rubric import DEFAULT, Dimension, Rubric
from aggregators.settings import Choose, Role, Settings, best_seat
from aggregators.shown import shown
from orchestrator.config.aggregation import AggregationConfig, Dimensions, EnsembleConfig
from orchestrator.config.model import Config
from orchestrator.ensembles import PREFIX, Ensemble, Ensembles
from routers.policies.budget import Budget

if TYPE_CHECKING:
    from experts.profile import Aggregation


class NoProfile(RuntimeError):
    """The profile that the configuration names does not say who judges and writes. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a profile says: who judges and writes where the configuration names nobody, and the weights of rubrics to
    which it gives none (category -> dimension -> weight)."""

    choose: Choose = best_seat
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def measured(config: Config) -> Measured:
    """By the profile that the configuration names. Raises NoProfile."""
    folder = config.aggregation.profile
    if folder is None:
        return Measured()
    from orchestrator.profile.files import ProfileError, read_profile

    try:
        profile = read_profile(folder)
    except (ProfileError, OSError) as error:
        raise NoProfile(f"aggregation.profile: {error}") from error
    if profile is None or profile.aggregation is None:
        lacks = "there is no profile in" if profile is None else "who judges best was not measured for the profile in"
        raise NoProfile(f"aggregation.profile: {lacks} {folder}; run: coe profile --aggregators --out {folder}")
    return Measured(_Best(profile.aggregation), profile.aggregation.weights)


@dataclass(frozen=True, slots=True)
class _Best:
    """Who does best by a profile; implements `Choose`. It may be pickled, for what plans a batch elsewhere."""

    aggregation: "Aggregation"

    def __call__(self, role: Role, category: str | None, candidates: Sequence[str]) -> str:
        from experts.profile_aggregation import best_aggregator

        scores = self.aggregation.judging if role == "judge" else self.aggregation.writing
        return best_aggregator(scores, category, candidates)


def aggregators(config: Config, measured: Measured = Measured()) -> Mapping[str, Aggregator]:
    """Those of the service, by name."""
    return build(settings(config.aggregation, measured.weights), measured.choose)


def told_settings(config: Config, measured: Measured = Measured()) -> Mapping[str, Mapping[str, Any]]:
    """Aggregator -> its settings, as callers are told of them."""
    own = settings(config.aggregation, measured.weights)
    return {name: shown(name, own) for name in NAMES}


def ensembles(config: Config, measured: Measured = Measured()) -> Ensembles:
    """Those of the service, by model name, each with an aggregator of its own settings over the service's."""
    return {
        PREFIX + name: _ensemble(PREFIX + name, ensemble, ensemble.aggregation.over(config.aggregation), measured)
        for name, ensemble in config.ensembles.items()
    }


def _ensemble(model: str, ensemble: EnsembleConfig, aggregation: AggregationConfig, measured: Measured) -> Ensemble:
    own = settings(aggregation, measured.weights)
    return Ensemble(
        model=model,
        k=ensemble.seats,
        aggregator=make(ensemble.aggregator, own, measured.choose),
        experts=ensemble.experts,
        expert=aggregation.expert,
        budget=Budget(ensemble.budget.calls, ensemble.budget.usd),
        description=ensemble.description,
        settings=shown(ensemble.aggregator, own),
    )


def own_calls(aggregator: str, aggregation: AggregationConfig, drafts: int) -> int:
    """The most calls that it makes itself for so many drafts."""
    return make(aggregator, settings(aggregation)).calls(drafts)


def settings(
    aggregation: AggregationConfig, weights: Mapping[str, Mapping[str, float]] = MappingProxyType({})
) -> Settings:
    """The same as aggregators take it. weights: category -> dimension -> weight, for rubrics that have none."""
    rubric = DEFAULT if aggregation.rubric is None else _rubric(aggregation.rubric)
    rubrics = {category: _rubric(dimensions) for category, dimensions in aggregation.rubrics.items()}
    return Settings(
        expert=aggregation.expert,
        rubric=rubric,
        prompts=aggregation.prompts.given(),
        rubrics=rubrics | {name: _weighted(rubrics.get(name, rubric), weights[name]) for name in weights},
        reserve_s=aggregation.reserve_s,
        draft_characters=aggregation.draft_characters,
        judge_tokens=aggregation.judge_tokens,
        stream_first=aggregation.stream_first,
        waves=aggregation.waves,
        is_pairwise=aggregation.pairwise,
        layers=aggregation.layers,
        end=aggregation.end,
        first=aggregation.first,
        otherwise=aggregation.otherwise,
    )


def _rubric(dimensions: Dimensions) -> Rubric:
    """Weights only where the configuration gives any."""
    are_given = any("weight" in dimension.model_fields_set for dimension in dimensions)
    return Rubric(
        tuple(Dimension(dimension.name, dimension.question) for dimension in dimensions),
        tuple(dimension.weight for dimension in dimensions) if are_given else None,
    )


def _weighted(rubric: Rubric, weights: Mapping[str, float]) -> Rubric:
    """With these weights, unless it has its own or they are of other dimensions."""
    names = [dimension.name for dimension in rubric.dimensions]
    if rubric.weights is not None or set(names) != set(weights):
        return rubric
    return Rubric(rubric.dimensions, tuple(weights[name] for name in names))
