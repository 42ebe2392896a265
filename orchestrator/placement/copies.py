"""How many workers an expert lives on."""

import math
from collections.abc import Mapping, Sequence

from orchestrator.placement.model import Demand, Worker

GRAIN = 0.5
"""A copy takes at most so many times the mean load of a worker.

By Graham's bound on list scheduling (1966) the fullest of m equal workers then has at most 1 + (1 - 1/m) GRAIN times
the mean, if nothing but load counts: the mean, and one copy on top.
"""


def copies(
    workers: Sequence[Worker],
    demands: Sequence[Demand],
    have: Mapping[str, int] | None = None,
    band: float = 0.0,
    grain: float = GRAIN,
) -> dict[str, int]:
    """Expert -> workers that it is to live on: as many as make a copy's load small, within its `least` and `most`.

    have: expert -> how many it lives on now; they stay while its load is within `band` of the range that they are for.
    Where the workers' memory of all tiers is not enough for all, the copies of the least load are left out.
    """
    able = {own.family: [worker for worker in workers if own.family in worker.families] for own in demands}
    mean = {family: _mean(family, own, demands) for family, own in able.items()}
    wanted = {}
    for own in demands:
        unit = grain * mean[own.family] * sum(w.speed for w in able[own.family]) / max(1, len(able[own.family]))
        number = max(1, math.ceil(own.load / unit - 1e-9)) if unit else 1
        before = (have or {}).get(own.expert, 0)
        if before and (before - 1) * unit * (1 - band) < own.load <= before * unit * (1 + band):
            number = before
        number = max(own.least, min(number, own.most or number))
        wanted[own.expert] = max(1, min(number, len(able[own.family])))
    return _that_fit(workers, demands, wanted)


def _mean(family: str, workers: Sequence[Worker], demands: Sequence[Demand]) -> float:
    """Load of a worker of the family, if those that share its workers were spread evenly."""
    served = {name for worker in workers for name in worker.families} | {family}
    load = sum(own.load for own in demands if own.family in served)
    return load / (sum(worker.speed for worker in workers) or 1.0)


def _that_fit(workers: Sequence[Worker], demands: Sequence[Demand], wanted: dict[str, int]) -> dict[str, int]:
    room = sum(worker.room for worker in workers)
    if math.isinf(room):
        return wanted
    sizes = {own.expert: own.bytes for own in demands}
    for own in sorted(demands, key=lambda own: own.load):
        while wanted[own.expert] > own.least and sum(sizes[name] * n for name, n in wanted.items()) > room:
            wanted[own.expert] -= 1
    return wanted
