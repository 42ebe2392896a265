"""Which of a family's workers gets a call."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SLACK = 1.25
"""So many times the mean number of calls a worker may have for the sake of its images; then others load them too."""

_RANK = {"device": 0, "remote": 0, "host": 1, "disk": 2}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker. calls: under way; tiers: expert -> where its image is, as last told; troubled: failed just now."""

    calls: int
    of_expert: int = 0
    tiers: dict[str, str] = field(default_factory=dict)
    troubled: bool = False


def choose(candidates: Sequence[Candidate], expert: str) -> int:
    """The index of the best one: affinity within bounded load.

    Only workers that would not have more than SLACK times the mean of calls are eligible (Mirrokni, Thorup and
    Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018, arXiv 1608.01350: c = SLACK); among those one that is
    well, then one that has the expert's image nearest to its device or is at work for it, then the shortest queue.
    Raises ValueError if there are none.
    """
    bound = math.ceil(SLACK * (sum(own.calls for own in candidates) + 1) / max(1, len(candidates)))

    def rank(index: int) -> tuple[bool, bool, int, int, int]:
        own = candidates[index]
        tier = 0 if own.of_expert else _RANK.get(own.tiers.get(expert, ""), 3)
        return own.troubled, own.calls + 1 > bound, tier, own.calls, index

    return min(range(len(candidates)), key=rank)
