"""The expert of a conversation's last turn stays: its prefix cache is warm, and its voice does not change."""

from dataclasses import dataclass

import numpy as np

from routers.policies.base import Slate, State


@dataclass(frozen=True, slots=True)
class Stay:
    """Puts the last turn's expert first unless another one is expected to be more than `margin` better."""

    margin: float

    def __call__(self, slate: Slate, state: State) -> Slate:
        if state.last not in slate.experts:
            return slate
        place = slate.experts.index(state.last)
        gap = float(slate.net[0] - slate.net[place])
        if place == 0 or gap > self.margin:
            return slate
        order = np.concatenate([[place], np.delete(np.arange(len(slate.experts)), place)])
        return slate.ordered(order, f"{state.last} stays from the last turn, within {self.margin:g} of the best")
