"""Which of a family's workers gets a call."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SLACK = 1.25
"""So many times the mean number of calls a worker may have for the sake of its images; then others load them too."""

AT_ONCE = 8
"""So many calls a worker may have for experts that are placed on it, whatever the mean: an engine answers them in one
batch, and a second call of an expert is no reason to load its image elsewhere while others idle."""

_RANK = {"device": 0, "remote": 0, "host": 1, "disk": 2}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker. calls: under way; tiers: expert -> where its image is, as last told; troubled: failed just now; home:
    the expert that is asked for is placed on it."""

    calls: int
    of_expert: int = 0
    tiers: dict[str, str] = field(default_factory=dict)
    troubled: bool = False
    home: bool = False


def choose(candidates: Sequence[Candidate], expert: str) -> int:
    """The index of the best one: affinity within bounded load.

    Only workers that would not have more than SLACK times the mean of calls are eligible (Mirrokni, Thorup and
    Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018, arXiv 1608.01350: c = SLACK); among those one that is
    well, then a home of the expert, then one that has its image nearest to its device or is at work for it, then the
    shortest queue. A home is eligible with AT_ONCE calls too. So where no worker is a home, or all homes are too busy,
    the images decide. Raises ValueError if there are none.
    """
    bound = math.ceil(SLACK * (sum(own.calls for own in candidates) + 1) / max(1, len(candidates)))

    def rank(index: int) -> tuple[bool, bool, bool, int, int, int]:
        own = candidates[index]
        tier = 0 if own.of_expert else _RANK.get(own.tiers.get(expert, ""), 3)
        busy = own.calls + 1 > (max(bound, AT_ONCE) if own.home else bound)
        return own.troubled, busy, not own.home, tier, own.calls, index

    return min(range(len(candidates)), key=rank)
