"""When is a vote decided enough? As early as costs no right answers on held-out prompts."""

import numpy as np

from routers.evaluation.decisions import Decided, scored
from routers.labelled.data import Labelled
from routers.labelled.replay import Normalise, coded, in_waves

PATIENCES = tuple(round(0.05 * step, 2) for step in range(20, 3, -1))
"""From 1, where only certainty ends a vote, to 0.2."""
LEAST_PROMPTS = 300
"""With no loss among so many, at most 1 % of all votes are lost (95 %; the rule of three). With fewer it is 1."""


def least_patience(data: Labelled, decided: Decided, normalise: Normalise = str.strip) -> float:
    """The smallest of `PATIENCES` whose votes, of all sizes together, score no less than those that wait for everybody.

    decided: on the prompts of `data`, by routers that have not seen them. 1 where nothing was voted on.
    """
    if data.answers is None or not decided.asked or len(data) < LEAST_PROMPTS:
        return 1.0
    codes = coded(data.answers, normalise)

    def score(patience: float) -> float:
        won = [in_waves(codes, decided.asked[k], decided.weights[k], patience)[0] for k in decided.asked]
        return float(np.mean([scored(data, winner).mean() for winner in won]))

    patient = score(1.0)
    return min(patience for patience in PATIENCES if patience == 1.0 or score(patience) >= patient)
