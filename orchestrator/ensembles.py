"""Ensembles: several experts under one model name, as coe.yaml declares them. docs/aggregation.md says when to.

`UnknownEnsemble`   a request names an ensemble that does not exist
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aggregators.base import Aggregator
from experts.registry import close_matches, one_of
from routers.policies.budget import NO_BOUND, Budget

PREFIX = "ensemble/"

MAX_QUOTED = 100
"""Characters of a wrong name that a message repeats."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several experts that answer as one model.

    model: what callers write, with the prefix. k: how many answer, fewer where fewer can. aggregator: makes one answer
    of their drafts. experts: whom the router chooses among; None = all. expert: who judges and writes; None = as the
    service's aggregation says. budget: the most that a request may cost. description: for people. settings: of the
    aggregator, as callers are told of them.
    """

    model: str
    k: int
    aggregator: Aggregator
    experts: tuple[str, ...] | None = None
    expert: str | None = None
    budget: Budget = NO_BOUND
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def shown(self, allowed: Sequence[str]) -> dict[str, Any]:
        """What the models endpoint tells of it. allowed: all experts that the caller may use."""
        return {
            "kind": "ensemble",
            "experts": [name for name in self.experts or allowed if name in allowed],
            "k": self.k,
            "aggregator": self.aggregator.name,
            "settings": for_caller(self.settings, allowed),
            "expert": self.expert if self.expert in allowed else None,
            "budget": {"calls": self.budget.calls, "usd": self.budget.usd},
            "description": self.description,
        }


def for_caller(settings: Mapping[str, Any], allowed: Container[str]) -> dict[str, Any]:
    """An aggregator's settings without the name of an expert that the caller may not use."""
    expert = settings.get("expert")
    return {**settings, "expert": None} if expert is not None and expert not in allowed else {**settings}


Ensembles = Mapping[str, Ensemble]
"""Model name -> ensemble, in the order of the configuration."""


def is_ensemble(model: str) -> bool:
    """Is it the name of an ensemble, whether there is one or not?"""
    return model.startswith(PREFIX)


class UnknownEnsemble(LookupError):
    """No ensemble has this model name. The message says what may have been meant."""

    def __init__(self, model: str, ensembles: Ensembles) -> None:
        there_are = f"there {'is' if len(ensembles) == 1 else 'are'} {len(ensembles)}"
        close = close_matches(model.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in ensembles])
        meant = f"; did you mean {one_of(PREFIX + name for name in close)}?" if close else ""
        super().__init__(f"no ensemble is named {model[:MAX_QUOTED]!r} ({there_are}){meant}")


def find(model: str, ensembles: Ensembles, experts: Container[str]) -> Ensemble | None:
    """The ensemble of that model name; None for a name that is no ensemble's, which may be nobody's.

    Raises UnknownEnsemble, also for an ensemble's name without the prefix that no expert has.
    """
    forgotten = PREFIX + model in ensembles and model not in experts
    if forgotten or (is_ensemble(model) and model not in ensembles):
        raise UnknownEnsemble(model, ensembles)
    return ensembles.get(model)
