"""Who plans where experts live: a planner for each application of several workers, made from the configuration.

`planners`   what is to be planned for
`Placing`    the planners at work, as configurations follow each other
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from orchestrator.config.aggregation import EnsembleConfig
from orchestrator.config.model import Config
from orchestrator.placement.model import CoSelection
from orchestrator.placement.planner import EVERY_S, WINDOW_S, Planner, keep_placed, unasked
from orchestrator.plans import Plan, families_of, image_bytes
from workers.channel.client import Links


def planners(found: Mapping[str, Plan], config: Config, window_s: float = WINDOW_S) -> dict[str, Planner]:
    """Application -> its planner, for those that may have several workers, and have experts with weights. It reads the
    disk.

    found: what is deployed; config: what else is known of its experts.
    """
    together = configured(config.ensembles)
    made = {}
    for app, plan in found.items():
        least, most = plan.config.bounds
        if most < 2:
            continue
        own = families_of(plan)
        sizes = {expert: size for family in own for expert, size in image_bytes(family).items()}
        known = unasked((spec for family in own for spec in family.experts), lambda spec, of=sizes: of[spec.name])
        if known:
            names = tuple(family.family for family in own)
            made[app] = Planner(known, names, workers=least, window_s=window_s, together=together)
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


@dataclass(frozen=True, slots=True)
class _AtWork:
    """links: to the workers that the planner decides for."""

    planner: Planner
    links: Links
    task: "asyncio.Task[None]"


class Placing:
    """Planners at work. There are none before `follow`. every_s: seconds between two looks of each."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._at_work: dict[str, _AtWork] = {}
        self._ended: list[asyncio.Task[None]] = []

    def follow(self, planned: Mapping[str, Planner], links: Mapping[str, Links]) -> None:
        """These are the planners from now on. One that is at work for the same workers goes on, with what it has seen
        of them, and follows the other one. Workers that nobody plans for any more stay as they are.

        links: by application, open; one without is not planned for.
        """
        wanted = {app: (planner, links[app]) for app, planner in planned.items() if app in links}
        for app, own in list(self._at_work.items()):
            if app not in wanted or wanted[app][1] is not own.links:
                own.task.cancel()
                self._ended.append(own.task)
                del self._at_work[app]
        for app, (planner, its_links) in wanted.items():
            if app in self._at_work:
                self._at_work[app].planner.follow(planner)
            else:
                task = asyncio.get_running_loop().create_task(keep_placed(its_links, planner, self._every_s))
                self._at_work[app] = _AtWork(planner, its_links, task)

    async def close(self) -> None:
        self.follow({}, {})
        await asyncio.gather(*self._ended, return_exceptions=True)
        self._ended.clear()
