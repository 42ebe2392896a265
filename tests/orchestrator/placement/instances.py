"""Small clusters with random experts, of which every placement could be looked at."""

import random

from hypothesis import strategies as st

from orchestrator.placement.copies import copies
from orchestrator.placement.model import CoSelection, Demand, Placement, Problem, Worker, make_problem

GB = 10**9


def workers(number: int, *, nodes: int = 0, device: float = 80 * GB, family: str = "f", first: int = 0) -> list[Worker]:
    """Of equal speed, 1,000 tokens/s; nodes: over which they are dealt out, 0 = each has its own."""
    return [
        Worker(f"w{k}", f"n{k % (nodes or k + 1)}", (family,), 1000.0, device) for k in range(first, first + number)
    ]


def demand(expert: str, rate: float, *, base: str | None = None, least: int = 1, most: int | None = None) -> Demand:
    """Answers of 100 tokens; images of 10 GB that load in 5 s."""
    return Demand(expert, "f", rate, 100.0, 0.1 * GB if base else 10 * GB, 0.1 if base else 5.0, base, least, most)


def experts(*rates: float) -> list[Demand]:
    """e0, e1, ..."""
    return [demand(f"e{k}", rate) for k, rate in enumerate(rates)]


def random_problem(seed: int, *, moves: bool = False) -> Problem:
    """1 to 4 workers of one or two speeds, 2 to 7 experts, some adapters, some pairs; moves: experts live already."""
    dice = random.Random(seed)
    count = dice.randint(1, 4)
    nodes = dice.randint(1, count)
    there = [
        Worker(f"w{k}", f"n{k % nodes}", ("f",), 1000.0 * dice.choice((1, 1, 2)), dice.uniform(10, 80) * GB)
        for k in range(count)
    ]
    demands: list[Demand] = []
    for k in range(dice.randint(2, 7)):
        roots = [own.expert for own in demands if own.base is None]
        base = dice.choice(roots) if roots and dice.random() < 0.3 else None
        size = 0.1 * GB if base else dice.choice((3, 15, 15)) * GB
        demands.append(Demand(f"e{k}", "f", dice.expovariate(1), 200, size, 0.2 if base else 8.0, base))
    names = [own.expert for own in demands]
    sampled = [dice.sample(names, 2) for _ in range(dice.randint(0, 6))]
    pairs = [CoSelection(one, other, dice.random()) for one, other in sampled]
    current = None
    if moves:
        hosts = [worker.name for worker in there]
        current = Placement({name: tuple(dice.sample(hosts, dice.randint(0, min(2, count)))) for name in names})
    budget = dice.choice((None, 0.0, 8.0, 30.0))
    return make_problem(there, demands, copies(there, demands), pairs, current, budget)


problems = st.builds(random_problem, st.integers(0, 10**6), moves=st.booleans())
