"""When a placement is changed, and by how much: a decision over the last windows of load.

What is missing is placed at once, and nobody else moves for it: experts that are new, and those whose worker is gone.
Load moves experts only where it has shifted to stay: in *every* window the fullest worker of a group has more than the
band allows and is busy, and the new placement is better by the gain. So load that swings about a mean moves nothing,
and what is moved is not moved back by the next window. A worker that came and has nothing yet takes no band, and others
need not be busy for it: there is gain enough in it, or there is not.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.placement.copies import copies as wanted_copies
from orchestrator.placement.model import (
    CoSelection,
    Demand,
    Placement,
    PlacementError,
    Weights,
    Worker,
    check,
    cost,
    make_problem,
    terms,
)
from orchestrator.placement.place import groups, place


@dataclass(frozen=True, slots=True)
class Bounds:
    """band: the fullest worker may have (1 + band) times the mean. gain: what a change must save in each window, as a
    share of the mean load (`Weights`). idle: share of its speed below which a worker is not busy. budget_s: seconds of
    loads that one change may take for load's sake. windows: so many are needed before load moves anything."""

    band: float = 0.25
    gain: float = 0.1
    idle: float = 0.3
    budget_s: float = 120.0
    windows: int = 3


@dataclass(frozen=True, slots=True)
class Load:
    """An image, or an adapter's own weights, that a worker is to load."""

    expert: str
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """A new placement, and what it takes to get there. missing, shifted: experts that made it necessary or worth it."""

    placement: Placement
    loads: tuple[Load, ...]
    missing: tuple[str, ...] = ()
    shifted: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(load.seconds for load in self.loads)


def replan(
    current: Placement,
    workers: Sequence[Worker],
    windows: Sequence[Sequence[Demand]],
    together: Iterable[CoSelection] = (),
    bounds: Bounds | None = None,
    weights: Weights | None = None,
) -> Change | None:
    """What is to change, or None.

    windows: the demands in windows of equal length, the oldest first; the experts of the last one are those that there
    are. Raises PlacementError, also without windows.
    """
    if not windows:
        raise PlacementError("got no window of demands; at least one is needed")
    bounds, together = bounds or Bounds(), tuple(together)
    check(workers, windows[-1])
    demands = _mean(windows)
    there = _still_there(current, workers, demands)
    numbers = _numbers(current, there, workers, demands)
    missing = tuple(name for name, number in numbers.items() if len(there.of[name]) < number)
    base = _repaired(there, workers, demands, numbers, together, weights) if missing else there
    found, shifted = dict(base.of), list[str]()
    # What is missing comes alone: load may shift who lives where once the workers that are left have shown how full.
    parts = () if missing else groups(workers, demands)
    shift = [part for part in parts if _has_shifted(base, part, windows, bounds)]
    for own_workers, own_demands in shift:
        have = {own.expert: len(base.of[own.expert]) for own in own_demands}
        wanted = wanted_copies(own_workers, own_demands, have, bounds.band)
        number, left = _affordable(wanted, have, own_demands, bounds.budget_s / len(shift))
        try:
            better = place(own_workers, own_demands, together, base, copies=number, budget_s=left, weights=weights)
        except PlacementError:  # no room for more: all can stay as they are
            continue
        least = 0.0 if _unused(base, own_workers) else bounds.gain
        if all(
            _saving(base, better, own_workers, _of(window, own_demands), together, weights) > least
            for window in windows
        ):
            shifted += [name for name, homes in better.of.items() if {*homes} != {*base.of[name]}]
            found |= better.of
    placement = Placement(found)
    if {name: {*homes} for name, homes in placement.of.items()} == {name: {*own} for name, own in current.of.items()}:
        return None
    return Change(placement, loads(there, placement, demands), missing, tuple(shifted))


def loads(before: Placement, after: Placement, demands: Sequence[Demand]) -> tuple[Load, ...]:
    """What workers must load for `after` that they had no reason to hold before."""
    own = {demand.expert: demand for demand in demands}

    def held(placement: Placement) -> set[tuple[str, str]]:
        pairs = [(name, worker) for name, homes in placement.of.items() if name in own for worker in homes]
        return {pair for name, worker in pairs for pair in ((name, worker), (own[name].image, worker))}

    return tuple(Load(name, worker, own[name].load_s) for name, worker in sorted(held(after) - held(before)))


def _mean(windows: Sequence[Sequence[Demand]]) -> tuple[Demand, ...]:
    """The demands of the last window, with the mean rates of all, and tokens such that the mean load is kept."""
    rates, all_tokens = defaultdict[str, float](float), defaultdict[str, float](float)
    for own in (demand for window in windows for demand in window):
        rates[own.expert] += own.rate / len(windows)
        all_tokens[own.expert] += own.load / len(windows)
    return tuple(
        replace(own, rate=rates[own.expert], tokens=all_tokens[own.expert] / (rates[own.expert] or 1) or own.tokens)
        for own in windows[-1]
    )


def _of(window: Sequence[Demand], demands: Sequence[Demand]) -> tuple[Demand, ...]:
    """These demands with the load of the window; an expert that it does not know had none."""
    there = {own.expert: own for own in window}
    return tuple(
        replace(own, rate=there[own.expert].rate, tokens=there[own.expert].tokens)
        if own.expert in there
        else replace(own, rate=0.0)
        for own in demands
    )


def _still_there(current: Placement, workers: Sequence[Worker], demands: Sequence[Demand]) -> Placement:
    able = {worker.name: worker.families for worker in workers}
    return Placement(
        {
            own.expert: tuple(w for w in current.of.get(own.expert, ()) if own.family in able.get(w, ()))
            for own in demands
        }
    )


def _numbers(
    current: Placement, there: Placement, workers: Sequence[Worker], demands: Sequence[Demand]
) -> Mapping[str, int]:
    """Expert -> how many workers it is to have if load is left out of account: as many as it had."""
    numbers = {}
    for own in demands:
        able = sum(own.family in worker.families for worker in workers)
        had = max(len(current.of.get(own.expert, ())), len(there.of[own.expert]))
        numbers[own.expert] = min(able, max(own.least, min(had, own.most or had)))
    return numbers


def _repaired(
    there: Placement,
    workers: Sequence[Worker],
    demands: Sequence[Demand],
    numbers: Mapping[str, int],
    together: Sequence[CoSelection],
    weights: Weights | None,
) -> Placement:
    try:
        return place(workers, demands, together, there, copies=numbers, stay=True, weights=weights)
    except PlacementError:  # others must make room
        return place(workers, demands, together, there, copies=numbers, weights=weights)


def _affordable(
    wanted: Mapping[str, int], have: Mapping[str, int], demands: Sequence[Demand], budget_s: float
) -> tuple[dict[str, int], float]:
    """As many further copies as can be loaded within the bound, the greatest load first, and what is left of it."""
    own_s = {own.expert: own.load_s for own in demands}
    number = {name: min(wanted[name], have[name]) for name in wanted}
    for own in sorted(demands, key=lambda own: (-own.load / have[own.expert], own.expert)):
        seconds = own.load_s + (own_s[own.base] if own.base else 0.0)
        while number[own.expert] < wanted[own.expert] and seconds <= budget_s:
            number[own.expert] += 1
            budget_s -= seconds
    return number, budget_s


def _has_shifted(
    placement: Placement,
    part: tuple[tuple[Worker, ...], tuple[Demand, ...]],
    windows: Sequence[Sequence[Demand]],
    bounds: Bounds,
) -> bool:
    if len(windows) < bounds.windows:
        return False
    workers, demands = part
    band, idle = (0.0, 0.0) if _unused(placement, workers) else (bounds.band, bounds.idle)
    for window in windows:
        problem = make_problem(workers, _of(window, demands), dict.fromkeys(placement.of, 1))
        balance = terms(problem, problem.matrix(placement)).balance
        if balance <= 1 + band or balance * problem.mean < idle or not problem.load.any():
            return False
    return True


def _unused(placement: Placement, workers: Sequence[Worker]) -> bool:
    return any(worker.name not in placement.workers for worker in workers)


def _saving(
    before: Placement,
    after: Placement,
    workers: Sequence[Worker],
    demands: Sequence[Demand],
    together: Sequence[CoSelection],
    weights: Weights | None,
) -> float:
    """What `after` saves, the loads that it takes counted."""
    copies = {own.expert: len(after.of[own.expert]) for own in demands}
    problem = make_problem(workers, demands, copies, together, before, None, weights)
    return cost(problem, problem.matrix(before)) - cost(problem, problem.matrix(after))
