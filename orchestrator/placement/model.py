"""Which experts live on which workers: the words of the problem, and what a placement costs.

`Worker`, `Demand`, `CoSelection`   what is known
`Placement`                         what is decided: the workers that are to answer an expert's calls
`Weights`                           what counts how much
`cost`                              a placement's price, term by term

An expert that is placed on a worker *lives* there: its calls go there, and its image is kept near the device. It is not
shut out elsewhere: a worker can load any expert of its families, and does where those of the placement are overloaded.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]


class PlacementError(ValueError):
    """There is no placement, or the input is unusable; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A replica of a deployment. families: those that it serves; node: the machine that it dies with.

    speed: tokens per second that it generates with full batches. device, host, disk: bytes for images in each tier; an
    image that has no room on the device is loaded when its expert is asked.
    """

    name: str
    node: str
    families: tuple[str, ...]
    speed: float
    device: float
    host: float = 0.0
    disk: float = math.inf

    @property
    def room(self) -> float:
        return self.device + self.host + self.disk


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of an expert. rate: requests per second that come, answered or not; tokens: of a mean answer.

    bytes: of its image, or of an adapter's own weights; load_s: seconds to load them to a worker. base: of an adapter,
    the expert whose image it computes with. least, most: workers that it lives on; None = as many as there are. Fewer
    than `least` only where there are not so many workers.
    """

    expert: str
    family: str
    rate: float
    tokens: float
    bytes: float
    load_s: float = 1.0
    base: str | None = None
    least: int = 1
    most: int | None = None

    @property
    def load(self) -> float:
        """Tokens per second."""
        return self.rate * self.tokens

    @property
    def image(self) -> str:
        return self.base or self.expert


@dataclass(frozen=True, slots=True)
class CoSelection:
    """Two experts that answer the same requests, so often per second."""

    first: str
    second: str
    rate: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Expert -> the workers that it lives on, by name."""

    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def on(self, worker: str) -> tuple[str, ...]:
        """The experts that live there."""
        return tuple(expert for expert, workers in self.of.items() if worker in workers)

    @property
    def workers(self) -> frozenset[str]:
        return frozenset(worker for workers in self.of.values() for worker in workers)


@dataclass(frozen=True, slots=True)
class Weights:
    """The price of each thing. All are shares, so that they can be added:

    balance  load of the fullest worker over the mean load
    apart    share of the requests with several drafts in which two of them wait for each other on one worker
    copies   bytes of second and further copies of an image, over the bytes of all images
    spill    bytes of images that have no room on the device, over the bytes of all images
    spread   copies that share a node with another copy of their expert, over all copies of experts that have several
    move     share of all workers' time within `horizon_s` that goes into loading what was not there before
    """

    balance: float = 1.0
    apart: float = 0.5
    copies: float = 0.1
    spill: float = 0.5
    spread: float = 0.5
    move: float = 1.0
    horizon_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """A placement's cost before weights, see `Weights`."""

    balance: float
    apart: float
    copies: float
    spill: float
    spread: float
    move: float

    def total(self, weights: Weights) -> float:
        total: float = sum(getattr(weights, name) * getattr(self, name) for name in self.__slots__)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The same in numbers: E experts, W workers, I images, N nodes.

    load (E,): tokens/s; copies (E,): workers that each lives on; image (E,): index of the image it computes with.
    own (E,), own_s (E,): bytes and seconds of an adapter's own weights, else 0. size (I,), size_s (I,): of the images.
    speed, device, room (W,); node (W,): index; allowed (E, W). pairs: (expert, expert, share of all co-selections), of
    different images only: adapters of one base compute in one batch, and wait for nobody.
    held (E, W): where experts live now; budget_s: seconds of loads that may be spent on moves, None = no bound.
    """

    workers: tuple[Worker, ...]
    demands: tuple[Demand, ...]
    weights: Weights
    load: Floats
    copies: Ints
    image: Ints
    own: Floats
    own_s: Floats
    size: Floats
    size_s: Floats
    speed: Floats
    device: Floats
    room: Floats
    node: Ints
    allowed: Bools
    pairs: tuple[tuple[int, int, float], ...]
    held: Bools
    budget_s: float

    @property
    def share(self) -> Floats:
        """(E,): tokens/s that each copy takes; calls are spread evenly, as the choice of the shortest queue does."""
        return self.load / self.copies

    @property
    def mean(self) -> float:
        """Load of each worker if all were equally full; 1 where nothing is asked."""
        return float(self.load.sum() / self.speed.sum()) or 1.0

    @property
    def bytes(self) -> float:
        return float(self.size.sum() + self.own.sum()) or 1.0

    @property
    def several(self) -> float:
        """Copies of experts that have more than one."""
        return float(self.copies[self.copies > 1].sum()) or 1.0

    @property
    def time(self) -> float:
        """Seconds of all workers within the horizon."""
        return self.weights.horizon_s * len(self.workers)

    def images(self, x: Bools) -> Bools:
        """(I, W): which images lie where, if experts live where x (E, W) says."""
        y = np.zeros((len(self.size), len(self.workers)), np.bool_)
        np.logical_or.at(y, self.image, x)
        return y

    def used(self, x: Bools) -> Floats:
        """(W,): bytes."""
        total: Floats = self.size @ self.images(x) + self.own @ x
        return total

    @property
    def kept(self) -> Bools:
        """(E, W): who lives where now, without those of the least load where the memory of a worker is not enough."""
        x = self.held.copy()
        for e in np.argsort(self.share, kind="stable"):
            over = self.used(x) > self.room
            if not over.any():
                break
            x[e] &= ~over
        return x

    def moved_s(self, x: Bools) -> float:
        """Seconds of loads: what lies where it did not before."""
        images = self.images(x) & ~self.images(self.held)
        return float((self.size_s @ images).sum() + (self.own_s @ (x & ~self.held)).sum())

    def placement(self, x: Bools) -> Placement:
        names = [worker.name for worker in self.workers]
        return Placement(
            {own.expert: tuple(names[w] for w in np.flatnonzero(x[e])) for e, own in enumerate(self.demands)}
        )

    def matrix(self, placement: Placement) -> Bools:
        """(E, W): the placement on the workers that there are."""
        x = np.zeros((len(self.demands), len(self.workers)), np.bool_)
        index = {worker.name: w for w, worker in enumerate(self.workers)}
        for e, own in enumerate(self.demands):
            for name in placement.of.get(own.expert, ()):
                if name in index:
                    x[e, index[name]] = True
        return x & self.allowed


def terms(problem: Problem, x: Bools) -> Terms:
    """What it costs that experts live where x (E, W) says. Calls are spread over as many workers as there are in x."""
    each = problem.load / np.maximum(1, x.sum(axis=1))
    full = (each @ x) / problem.speed
    first, second = [a for a, _, _ in problem.pairs], [b for _, b, _ in problem.pairs]
    homes, both = x.sum(axis=1), (x[first] & x[second]).sum(axis=1)
    together = both / np.maximum(1, homes[first] * homes[second])
    nodes = np.zeros((len(problem.demands), int(problem.node.max()) + 1))
    np.add.at(nodes.T, problem.node, x.T.astype(np.float64))
    used = problem.used(x)
    return Terms(
        balance=float(full.max()) / problem.mean,
        apart=float(together @ np.array([share for _, _, share in problem.pairs])),
        copies=float(used.sum()) / problem.bytes - 1,
        spill=float(np.maximum(0, used - problem.device).sum()) / problem.bytes,
        spread=float(np.maximum(0, nodes - 1).sum()) / problem.several,
        move=problem.moved_s(x) / problem.time,
    )


def cost(problem: Problem, x: Bools) -> float:
    """The terms by their weights: what is to be least."""
    return terms(problem, x).total(problem.weights)


def make_problem(
    workers: Sequence[Worker],
    demands: Sequence[Demand],
    copies: Mapping[str, int],
    together: Iterable[CoSelection] = (),
    current: Placement | None = None,
    budget_s: float | None = None,
    weights: Weights | None = None,
) -> Problem:
    """copies: expert -> number of workers that it is to live on. current: where experts live; it is charged what moves.

    budget_s: seconds of loads that moves may take, beyond what must be loaded since too few workers have it.
    What is given has been checked (`check`).
    """
    weights = weights or Weights()
    index = {own.expert: e for e, own in enumerate(demands)}
    images = {name: i for i, name in enumerate(dict.fromkeys(own.image for own in demands))}
    carriers = [demands[index[name]] for name in images]
    nodes = {name: n for n, name in enumerate(dict.fromkeys(worker.node for worker in workers))}
    adapter = np.array([own.base is not None for own in demands])
    found = [
        (index[pair.first], index[pair.second], pair.rate)
        for pair in together
        if pair.first in index and pair.second in index and pair.rate > 0
    ]
    total = sum(rate for _, _, rate in found)
    problem = Problem(
        workers=tuple(workers),
        demands=tuple(demands),
        weights=weights,
        load=np.array([own.load for own in demands]),
        copies=np.array([copies[own.expert] for own in demands], np.intp),
        image=np.array([images[own.image] for own in demands], np.intp),
        own=np.where(adapter, [own.bytes for own in demands], 0.0),
        own_s=np.where(adapter, [own.load_s for own in demands], 0.0),
        size=np.array([own.bytes for own in carriers]),
        size_s=np.array([own.load_s for own in carriers]),
        speed=np.array([worker.speed for worker in workers]),
        device=np.array([worker.device for worker in workers]),
        room=np.array([worker.room for worker in workers]),
        node=np.array([nodes[worker.node] for worker in workers], np.intp),
        allowed=np.array([[own.family in worker.families for worker in workers] for own in demands]),
        pairs=tuple((a, b, rate / total) for a, b, rate in found if demands[a].image != demands[b].image),
        held=np.zeros((len(demands), len(workers)), np.bool_),
        budget_s=math.inf,
    )
    if current is None:  # where nothing is yet, everything must be loaded
        return replace(problem, own_s=0 * problem.own_s, size_s=0 * problem.size_s)
    problem = replace(problem, held=problem.matrix(current))
    missing = np.maximum(0, problem.copies - problem.kept.sum(axis=1))
    needed = float((missing * (problem.own_s + problem.size_s[problem.image])).sum())
    return replace(problem, budget_s=math.inf if budget_s is None else budget_s + needed)


def check(workers: Sequence[Worker], demands: Sequence[Demand]) -> None:
    """Raises PlacementError for what cannot be placed, whatever the room."""
    if not workers or not demands:
        raise PlacementError(f"got {len(workers)} workers and {len(demands)} experts; at least one of each is needed")
    for what, names in (("worker", [w.name for w in workers]), ("expert", [d.expert for d in demands])):
        if twice := sorted({name for name in names if names.count(name) > 1}) if len({*names}) < len(names) else []:
            raise PlacementError(f"the {what} {twice[0]!r} is there twice; give each a name of its own")
    for worker in workers:
        if not (worker.speed > 0 and math.isfinite(worker.speed) and min(worker.device, worker.host, worker.disk) >= 0):
            raise PlacementError(f"{worker}: its speed must be positive, its memory at least 0")
    kinds = {own.expert: own for own in demands}
    for own in demands:
        figures = (own.rate, own.tokens, own.bytes, own.load_s)
        if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
            raise PlacementError(f"{own}: rate, tokens, bytes and load_s must be finite and at least 0")
        if own.least < 1 or (own.most is not None and own.most < own.least):
            raise PlacementError(f"{own}: 1 <= least <= most is needed")
        if own.base is not None and (own.base not in kinds or kinds[own.base].family != own.family):
            raise PlacementError(f"{own.expert}: its base {own.base!r} is no expert of the family {own.family!r}")
        if not any(own.family in worker.families for worker in workers):
            raise PlacementError(f"no worker serves the family {own.family!r} of {own.expert}")
