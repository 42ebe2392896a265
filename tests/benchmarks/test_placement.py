"""What greedy placement is compared with places the same copies, and the hour turns at half time."""

import random

import numpy as np

from benchmarks import placement as module
from benchmarks.placement import at_random, demands_of, hour, in_turn, pool, workers
from orchestrator.placement.copies import copies
from orchestrator.placement.model import Problem, make_problem


def problem() -> Problem:
    there = workers(4, nodes=2)
    demands, pairs = pool(30, there, 1.0, seed=1)
    return make_problem(there, demands, copies(there, demands), pairs)


def test_the_peers_place_as_many_copies_on_as_many_workers() -> None:
    own = problem()
    assert own.copies.max() > 1
    for x in (at_random(own, random.Random(1)), in_turn(own)):
        assert (x.sum(axis=1) == own.copies).all()
    counts = in_turn(own).sum(axis=0)
    assert counts.max() - counts.min() <= 1


def test_a_pool_asks_for_most_of_the_workers_and_has_adapters() -> None:
    own = problem()
    assert 0.59 < own.mean < 0.61
    assert 0 < np.count_nonzero(own.own) < 30
    assert own.pairs


def test_at_half_time_the_last_become_the_first() -> None:
    windows = demands_of(hour(None, 8, seed=1), 8)
    assert len(windows) == module.WINDOWS
    for window, popular in ((windows[0], "e0000"), (windows[module.SHIFT], "e0007")):
        assert max(window, key=lambda own: own.rate).expert == popular
