"""From the configuration to aggregators: those of the service, and each ensemble with its own.

`NoProfile`   the profile that the configuration names cannot be used
"""

from collections.abc import Mapping
from functools import partial

from aggregators.base import Aggregator
from aggregators.registry import build, make
from aggregators.rubric import DEFAULT, Dimension, Rubric
from aggregators.settings import Choose, Settings, best_seat
from orchestrator.config import Config
from orchestrator.config_aggregation import AggregationConfig, Dimensions, EnsembleConfig
from orchestrator.ensembles import PREFIX, Ensemble, Ensembles
from routers.policies.budget import Budget


class NoProfile(RuntimeError):
    """The profile that the configuration names does not say who judges and writes. The message says what to do."""


def chooser(config: Config) -> Choose:
    """Who judges and writes where the configuration names nobody. Raises NoProfile."""
    folder = config.aggregation.profile
    if folder is None:
        return best_seat
    from experts.profile_aggregation import best_aggregator
    from orchestrator.profile_files import ProfileError, read_profile

    try:
        profile = read_profile(folder)
    except (ProfileError, OSError) as error:
        raise NoProfile(f"aggregation.profile: {error}") from error
    if profile is None or not profile.aggregation:
        lacks = "there is no profile in" if profile is None else "who judges best was not measured for the profile in"
        raise NoProfile(f"aggregation.profile: {lacks} {folder}; run: coe profile --aggregators --out {folder}")
    return partial(best_aggregator, profile.aggregation)


def aggregators(config: Config, choose: Choose = best_seat) -> Mapping[str, Aggregator]:
    """Those of the service, by name. choose: who judges and writes where the configuration names nobody."""
    return build(settings(config.aggregation), choose)


def ensembles(config: Config, choose: Choose = best_seat) -> Ensembles:
    """Those of the service, by model name, each with an aggregator of its own settings over the service's."""
    return {
        PREFIX + name: _ensemble(PREFIX + name, ensemble, ensemble.aggregation.over(config.aggregation), choose)
        for name, ensemble in config.ensembles.items()
    }


def _ensemble(model: str, ensemble: EnsembleConfig, aggregation: AggregationConfig, choose: Choose) -> Ensemble:
    return Ensemble(
        model=model,
        k=ensemble.seats,
        aggregator=make(ensemble.aggregator, settings(aggregation), choose),
        experts=ensemble.experts,
        expert=aggregation.expert,
        budget=Budget(ensemble.budget.calls, ensemble.budget.usd),
        description=ensemble.description,
    )


def own_calls(aggregator: str, aggregation: AggregationConfig, drafts: int) -> int:
    """The most calls that it makes itself for so many drafts."""
    return make(aggregator, settings(aggregation)).calls(drafts)


def settings(aggregation: AggregationConfig) -> Settings:
    """The same as aggregators take it."""
    return Settings(
        expert=aggregation.expert,
        rubric=DEFAULT if aggregation.rubric is None else _rubric(aggregation.rubric),
        prompts=aggregation.prompts.given(),
        rubrics={category: _rubric(dimensions) for category, dimensions in aggregation.rubrics.items()},
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
    return Rubric(
        tuple(Dimension(dimension.name, dimension.question) for dimension in dimensions),
        tuple(dimension.weight for dimension in dimensions),
    )
