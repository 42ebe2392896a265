"""Who plans where experts live: a planner for each application of several workers, made from the configuration."""

from collections.abc import Mapping
from itertools import combinations

from orchestrator.config.aggregation import EnsembleConfig
from orchestrator.config.model import Config
from orchestrator.placement.model import CoSelection
from orchestrator.placement.planner import WINDOW_S, Planner, unasked
from orchestrator.plans import DevicePlan, FamilyPlan, families, image_bytes


def planners(
    found: Mapping[str, FamilyPlan | DevicePlan], config: Config, window_s: float = WINDOW_S
) -> dict[tuple[str, ...], Planner]:
    """Families of an application -> its planner, for those that have several workers and experts with weights."""
    together = configured(config.ensembles)
    made = {}
    for plan in found.values():
        own = families(plan)
        sizes = {expert: size for family in own for expert, size in image_bytes(family).items()}
        known = unasked((spec for family in own for spec in family.experts), lambda spec, of=sizes: of[spec.name])
        if plan.config.replicas > 1 and known:
            names = tuple(family.family for family in own)
            made[names] = Planner(known, names, workers=plan.config.replicas, window_s=window_s, together=together)
    return made


def configured(ensembles: Mapping[str, EnsembleConfig]) -> tuple[CoSelection, ...]:
    """Who answers together in the ensembles that name their experts: as if each had been asked once.

    Of n experts of whom k answer two are together in k (k - 1) of n (n - 1) requests.
    """
    found = []
    for own in ensembles.values():
        number = len(own.experts or ())
        for one, other in combinations(own.experts or (), 2):
            found.append(CoSelection(one, other, own.seats * (own.seats - 1) / (number * (number - 1))))
    return tuple(found)
