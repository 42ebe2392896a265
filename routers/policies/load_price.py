"""The time that a load takes is part of the score: a resident near-best expert beats a cold best one."""

from dataclasses import dataclass, replace

import numpy as np

from routers.policies.base import Slate, State


@dataclass(frozen=True, slots=True)
class LoadPrice:
    """Orders by score - weight x seconds of loading.

    weight: expected score that a second of loading is worth. With 0.01 an expert whose load takes 5 s must be expected
    to be more than 0.05 better than one that is there. At equality the router's order stands.
    """

    weight: float

    def __call__(self, slate: Slate, state: State) -> Slate:
        seconds = np.array([state.load_s.get(name, 0.0) for name in slate.experts])
        priced = replace(slate, net=slate.net - self.weight * seconds)
        order = np.argsort(-priced.net, kind="stable")
        if order[0] == 0:
            return priced.ordered(order)
        gap = slate.scores[0] - slate.scores[order[0]]
        best, first = slate.experts[0], slate.experts[order[0]]
        note = f"{first} instead of {best}, whose load takes {seconds[0]:.2g} s for {gap:.2g} more expected score"
        return priced.ordered(order, note)
