"""Where each expert lives, and what a worker does with that.

`place`      the placement: the exact one for small instances, that of the greedy twin for large ones
`holdings`   worker -> the images that it keeps on the device, and those it keeps at hand
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.placement import exact, greedy
from orchestrator.placement.copies import copies as wanted_copies
from orchestrator.placement.model import (
    Bools,
    CoSelection,
    Demand,
    Placement,
    PlacementError,
    Problem,
    Weights,
    Worker,
    check,
    cost,
    make_problem,
)

SMALL = 64
"""Experts times workers up to which the exact placement is sought."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a worker does with the images of its experts. device: they stay on the device, in order of their load;
    near: they are the ones to keep in the next tier, where there is room, before others. Names of images, which are
    those of checkpoint experts."""

    device: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


def place(
    workers: Sequence[Worker],
    demands: Sequence[Demand],
    together: Iterable[CoSelection] = (),
    current: Placement | None = None,
    *,
    copies: Mapping[str, int] | None = None,
    budget_s: float | None = None,
    stay: bool = False,
    weights: Weights | None = None,
    small: int = SMALL,
    limit_s: float = exact.LIMIT_S,
) -> Placement:
    """The workers that each expert is to live on. Equal arguments give equal placements, unless limit_s cuts one short.

    together: who answers the same requests. current: where experts live now; each load that a change takes is charged,
    and budget_s bounds their seconds, beyond what must be loaded since an expert lives on too few workers. copies:
    expert -> number of its workers, None = by its load. stay: nobody moves, only what is missing is placed. small:
    experts times workers up to which the exact placement is sought, for at most limit_s seconds. Raises PlacementError.
    """
    check(workers, demands)
    together = tuple(together)
    found: dict[str, tuple[str, ...]] = {}
    parts = list(groups(workers, demands))
    total = sum(own.load_s for own in demands) or 1.0
    for own_workers, own_demands in parts:
        number = copies or wanted_copies(own_workers, own_demands)
        # Parts share a bound as their images share the time to load them.
        share = sum(own.load_s for own in own_demands) / total
        budget = None if budget_s is None else budget_s * share
        problem = make_problem(own_workers, own_demands, number, together, current, budget, weights)
        x = greedy.solve(problem, stay=True) if stay else _solve(problem, small, limit_s)
        found |= problem.placement(x).of
    return Placement({own.expert: found[own.expert] for own in demands})


def _solve(problem: Problem, small: int, limit_s: float) -> Bools:
    if problem.held.size > small:
        return greedy.solve(problem)
    best, is_best = exact.solve(problem, limit_s)
    if best is not None and is_best:
        return best
    try:
        quick = greedy.solve(problem)
    except PlacementError:  # which it may where memory is so tight that only the program finds the one way
        if best is None:
            raise
        return best
    return quick if best is None or cost(problem, quick) <= cost(problem, best) else best


def groups(
    workers: Sequence[Worker], demands: Sequence[Demand]
) -> Iterator[tuple[tuple[Worker, ...], tuple[Demand, ...]]]:
    """The parts that have nothing to do with each other: workers that serve the same families, and their experts."""
    part: dict[str, str] = {}  # family -> the one that its part is named after

    def root(family: str) -> str:
        while part.setdefault(family, family) != family:
            family = part[family]
        return family

    for worker in workers:
        for family in worker.families:
            part[root(family)] = root(worker.families[0])
    found: defaultdict[str, list[Demand]] = defaultdict(list)
    for own in demands:
        found[root(own.family)].append(own)
    for name, own_demands in found.items():
        yield tuple(w for w in workers if w.families and root(w.families[0]) == name), tuple(own_demands)


def holdings(placement: Placement, workers: Sequence[Worker], demands: Sequence[Demand]) -> dict[str, Holding]:
    """Worker -> what it holds of the experts that live there.

    The device takes images by the load that each byte serves, the best first, which is the relaxation of a knapsack
    (Dantzig 1957); one that does not fit is passed over, and is near. The room for one more image, the largest of the
    worker's families, is left where not all fit: an engine must be able to turn to the others.
    """
    return {worker.name: _holding(placement, worker, demands) for worker in workers}


def _holding(placement: Placement, worker: Worker, demands: Sequence[Demand]) -> Holding:
    sizes = {own.expert: own.bytes for own in demands if own.base is None and own.family in worker.families}
    load: defaultdict[str, float] = defaultdict(float)
    for own in demands:
        homes = placement.of.get(own.expert, ())
        if worker.name in homes and own.image in sizes:
            load[own.image] += own.load / len(homes)
    order = sorted(load, key=lambda image: (-load[image] / max(sizes[image], 1.0), image))
    room = worker.device - (0.0 if sum(sizes.values()) <= worker.device else max(sizes.values()))
    device = []
    for image in order:
        if load[image] > 0 and sizes[image] <= room:
            device.append(image)
            room -= sizes[image]
    return Holding(tuple(device), tuple(image for image in order if image not in device))
