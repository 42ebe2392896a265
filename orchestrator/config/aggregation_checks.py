"""Whether `aggregation` and `ensembles` of a coe.yaml can be used, and with which experts."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aggregators.settings import LEAST_SEATS
from experts.registry import did_you_mean
from orchestrator.config.file import Problems, under

if TYPE_CHECKING:
    from experts.registry import Registry
    from orchestrator.config.aggregation import AggregationConfig, DimensionConfig, EnsembleConfig
    from orchestrator.config.model import Config

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_WRITERS = frozenset(("judge", "synthesize", "refine"))
_USED_BY: Mapping[str, frozenset[str]] = {
    "expert": _WRITERS,
    "reserve_s": _WRITERS | {"cascade"},
    "profile": _WRITERS,
    "draft_characters": _WRITERS,
    "judge_tokens": frozenset(("judge",)),
    "prompts": _WRITERS,
    "stream_first": frozenset(("single",)),
    "waves": frozenset(("vote",)),
    "pairwise": frozenset(("judge",)),
    "rubric": frozenset(("judge",)),
    "rubrics": frozenset(("judge",)),
    "layers": frozenset(("refine",)),
    "end": frozenset(("refine",)),
    "first": frozenset(("cascade",)),
    "otherwise": frozenset(("cascade",)),
}
"""Key of `aggregation` -> the aggregators that look at it."""


def section(aggregation: "AggregationConfig") -> Problems:
    """Of the section by itself."""
    if aggregation.expert is not None and aggregation.profile is not None:
        yield ("profile",), "has no use beside 'expert', who judges and writes always; leave one of them out"
    if texts := aggregation.prompts.given():
        from aggregators.prompts import PromptError, check  # langchain-core, which takes its time

        for name, text in texts.items():
            try:
                check(name, text)
            except PromptError as error:
                yield ("prompts", name), str(error)
    if aggregation.rubric is not None:
        yield from under(("rubric",), _rubric(aggregation.rubric))
    for category, rubric in aggregation.rubrics.items():
        yield from under(("rubrics", category), _rubric(rubric))


def _rubric(dimensions: "Sequence[DimensionConfig]") -> Problems:
    names = [dimension.name.casefold() for dimension in dimensions]
    if not dimensions:
        yield (), "has no dimensions; name at least one thing to judge"
    elif not any(dimension.weight for dimension in dimensions):
        yield (0, "weight"), "all weights are 0; allowed: at least one above 0"
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (index, "name"),
                f"got {dimensions[index].name!r} a second time; names must differ, also in lower case",
            )


def problems(config: "Config", registry: "Registry") -> Problems:
    """Of both sections with the experts."""
    yield from under(("aggregation",), _expert(config.aggregation, registry))
    for name, ensemble in config.ensembles.items():
        yield from under(("ensembles", name), _ensemble(name, ensemble, config.aggregation, registry))


def _expert(aggregation: "AggregationConfig", registry: "Registry") -> Problems:
    expert = aggregation.expert
    if expert is not None and expert not in registry:
        yield ("expert",), f"got {expert!r}, which no expert is named{did_you_mean(expert, registry.names)}"


def _ensemble(name: str, ensemble: "EnsembleConfig", service: "AggregationConfig", registry: "Registry") -> Problems:
    if not _NAME.fullmatch(name):
        yield (), "names have 1 to 63 characters of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
    experts = ensemble.experts or ()
    for index, expert in enumerate(experts):
        if expert not in registry:
            yield ("experts", index), f"got {expert!r}, which no expert is named{did_you_mean(expert, registry.names)}"
        elif expert in experts[:index]:
            yield ("experts", index), f"got {expert!r} a second time; each expert has one draft"
    yield from _number(ensemble, registry)
    yield from under(("budget",), _budget(ensemble, service, registry))
    yield from under(("aggregation",), _expert(ensemble.aggregation, registry))
    at_work = _at_work(ensemble.aggregator, ensemble.aggregation.over(service))
    for key in sorted(ensemble.aggregation.model_fields_set):
        if key == "profile":
            yield ("aggregation", key), "is for the service as a whole; write it under 'aggregation' there"
        elif not _USED_BY[key] & at_work:
            yield ("aggregation", key), f"has no use for the aggregator {ensemble.aggregator!r}; leave it out"


def _number(ensemble: "EnsembleConfig", registry: "Registry") -> Problems:
    """Of seats."""
    seats, aggregator = ensemble.seats, ensemble.aggregator
    among = len(ensemble.experts or registry.names)
    if not seats:
        yield ("k",), "missing; without 'experts' it says how many answer"
        return
    if seats > among:
        of = "its experts" if ensemble.experts else "the service's experts"
        yield ("k",), f"got {seats}; allowed: up to {among}, the number of {of}"
    least = LEAST_SEATS.get(aggregator, 2)
    if seats < least:
        key = "k" if ensemble.k else "experts"
        yield (key,), f"got {seats}; {aggregator!r} needs at least {least}: of two votes the heavier one always wins"


def _budget(ensemble: "EnsembleConfig", service: "AggregationConfig", registry: "Registry") -> Problems:
    calls, usd = ensemble.budget.calls, ensemble.budget.usd
    if calls is not None:
        from orchestrator.aggregation import own_calls  # aggregators have prompts, see `section`

        own = own_calls(ensemble.aggregator, ensemble.aggregation.over(service), ensemble.seats)
        if calls < ensemble.seats + own:
            needs = f"{ensemble.seats} drafts" + (f" and {own} for {ensemble.aggregator!r}" if own else "")
            yield ("calls",), f"got {calls}; allowed: at least {ensemble.seats + own}, {needs}"
    if usd is not None and not any(spec.price.input or spec.price.output for spec in registry):
        yield ("usd",), "has no use: no expert has a price"


def _at_work(aggregator: str, aggregation: "AggregationConfig") -> frozenset[str]:
    """The aggregators that have a part in this one."""
    inner = {"refine": (aggregation.end,), "cascade": (aggregation.first, aggregation.otherwise)}.get(aggregator, ())
    return frozenset((aggregator,)).union(*(_at_work(part, aggregation) for part in inner))
