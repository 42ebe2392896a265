"""Who judges and who writes: the expert that makes the right thing of three drafts, two of which are wrong.

The choice is worth more than rounds of discussion (Symbolic-MoE, arXiv 2503.05641). `orchestrator.profile.aggregators`
asks the experts; what they scored stands in the profile, and here one is chosen from it.
"""

import math
from collections.abc import Mapping, Sequence

from experts.profile import Share

SHRINKAGE = 20.0
"""Tasks that what is known beyond a category is worth: of an expert in all categories, and of all experts."""

Scores = Mapping[str, Mapping[str, Share]]
"""Category -> expert -> how often it was right."""


def best_aggregator(scores: Scores, category: str | None, candidates: Sequence[str]) -> str:
    """The candidate that is expected to be right most often in the category; the first of equals.

    An expert's mean in the category is shrunk to its mean in all, and that to the mean of all experts, which a
    candidate that was never measured has too. So without any measurement it is the first candidate.
    """
    everything = [share for row in scores.values() for share in row.values()]
    typical = _mean(everything, 0.0)

    def expected(expert: str) -> float:
        overall = _mean([row[expert] for row in scores.values() if expert in row], typical)
        here = scores.get(category or "", {})
        return _mean([here[expert]] if expert in here else [], overall)

    return max(candidates, key=lambda expert: round(expected(expert), 9))


def _mean(shares: Sequence[Share], prior: float) -> float:
    """Of all tasks together, and of `SHRINKAGE` tasks more that scored `prior`."""
    total = math.fsum(share.mean * share.n for share in shares) + SHRINKAGE * prior
    return total / (sum(share.n for share in shares) + SHRINKAGE)
