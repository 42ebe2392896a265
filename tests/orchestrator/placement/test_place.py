"""Where experts live: what the placement heeds, and how good the greedy one is."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.placement import exact, greedy
from orchestrator.placement.copies import GRAIN, copies
from orchestrator.placement.model import (
    Bools,
    CoSelection,
    Placement,
    PlacementError,
    Problem,
    Worker,
    cost,
    make_problem,
    terms,
)
from orchestrator.placement.place import Holding, groups, holdings, place
from tests.orchestrator.placement.instances import GB, demand, experts, problems, random_problem, workers

PATIENT = settings(deadline=None, database=None, max_examples=40)
FACTOR = 1.2
"""The greedy cost is within this of the best: of 1,000 such instances 980 were at the best, the worst at 1.13."""


def is_valid(problem: Problem, x: Bools) -> bool:
    return bool(
        (x.sum(axis=1) == problem.copies).all()
        and not (x & ~problem.allowed).any()
        and (problem.used(x) <= problem.room * (1 + 1e-6)).all()
        and problem.moved_s(x) <= problem.budget_s + 1e-6
    )


def all_placements(problem: Problem) -> Iterator[Bools]:
    hosts = range(len(problem.workers))
    for choice in itertools.product(*(itertools.combinations(hosts, int(n)) for n in problem.copies)):
        x = np.zeros_like(problem.held)
        for e, chosen in enumerate(choice):
            x[e, list(chosen)] = True
        if is_valid(problem, x):
            yield x


@PATIENT
@given(st.integers(0, 10**6), st.booleans())
def test_the_program_finds_the_best_of_all_placements(seed: int, moves: bool) -> None:
    problem = random_problem(seed, moves=moves)
    if len(problem.workers) ** len(problem.demands) > 3000:
        return
    x, is_best = exact.solve(problem)
    assert x is not None
    assert is_best
    assert is_valid(problem, x)
    assert cost(problem, x) == pytest.approx(min(cost(problem, other) for other in all_placements(problem)), rel=1e-4)


@settings(PATIENT, derandomize=True, max_examples=60)  # a heuristic: no proof holds it for every instance there is
@given(problems)
def test_the_greedy_twin_is_valid_and_near_the_best(problem: Problem) -> None:
    quick, (best, _) = greedy.solve(problem), exact.solve(problem)
    assert best is not None
    assert is_valid(problem, quick)
    assert cost(problem, quick) <= FACTOR * cost(problem, best) + 1e-6


@PATIENT
@given(problems)
def test_what_the_greedy_twin_keeps_count_of_is_the_cost(problem: Problem) -> None:
    state = greedy._State(problem, np.zeros_like(problem.held))
    total = 0.0
    for e, w in zip(*map(np.ndarray.tolist, np.nonzero(greedy.solve(problem))), strict=True):
        total += float(state.prices(e)[w])
        state.put(e, w)
    x, t, full = state.x, terms(problem, state.x), state.full
    assert full.max() == pytest.approx(t.balance)
    assert state.used == pytest.approx(problem.used(x))
    assert state.moved == pytest.approx(problem.moved_s(x))
    # Images are charged from the first copy on here, which is the same for all placements.
    assert total + problem.weights.balance * full.max() - problem.weights.copies == pytest.approx(cost(problem, x))


@given(st.integers(0, 1000))
@settings(deadline=None, database=None, max_examples=10)
def test_equal_input_gives_equal_placements(seed: int) -> None:
    one, two = random_problem(seed), random_problem(seed)
    assert (greedy.solve(one) == greedy.solve(two)).all()


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=40), st.integers(1, 8))
@settings(deadline=None, database=None, max_examples=40)
def test_no_worker_has_more_than_grahams_bound(rates: list[float], number: int) -> None:
    there, demands = workers(number), experts(*rates)
    problem = make_problem(there, demands, copies(there, demands), weights=None)
    assert terms(problem, greedy.solve(problem)).balance <= 1 + GRAIN + 0.1  # 0.1: what other terms may weigh up


def test_a_hot_expert_lives_on_several_nodes() -> None:
    there, demands = workers(4, nodes=2), experts(3, 1, 1, 1)
    assert copies(there, demands) == {"e0": 4, "e1": 2, "e2": 2, "e3": 2}
    placed = place(there, demands, copies={"e0": 2, "e1": 1, "e2": 1, "e3": 1})
    assert {there[int(name[1:])].node for name in placed.of["e0"]} == {"n0", "n1"}


def test_least_and_most_bound_the_workers_of_an_expert() -> None:
    demands = [demand("hot", 9, most=2), demand("cold", 0, least=3), demand("all", 0, least=9)]
    assert copies(workers(4), demands) == {"hot": 2, "cold": 3, "all": 4}


@given(st.floats(0.3, 3), st.floats(0.3, 3))
def test_the_number_of_workers_does_not_follow_small_changes(before: float, after: float) -> None:
    there, rest = workers(4), experts(*[1.0] * 8)
    had = copies(there, [demand("own", before), *rest])
    now = copies(there, [demand("own", after), *rest], had, band=0.25)
    if abs(after / before - 1) < 0.05:
        assert now["own"] == had["own"]


def test_experts_that_answer_the_same_requests_live_apart() -> None:
    there, demands = workers(2), experts(1, 1, 1, 1)
    placed = place(there, demands, [CoSelection("e0", "e1", 5), CoSelection("e2", "e3", 5)])
    assert placed.of["e0"] != placed.of["e1"]
    assert placed.of["e2"] != placed.of["e3"]


@pytest.mark.parametrize("small", [0, 64])
def test_adapters_of_one_base_live_together_even_if_they_answer_the_same_requests(small: int) -> None:
    demands = [*experts(1, 1.2), *(demand(f"a{k}", 0.1, base="e0") for k in range(3))]
    pairs = [CoSelection("a0", "a1", 5), CoSelection("a0", "e0", 5)]
    placed = place(workers(2), demands, pairs, copies=dict.fromkeys([d.expert for d in demands], 1), small=small)
    assert {placed.of[name] for name in ("e0", "a0", "a1", "a2")} == {placed.of["e0"]}


def test_too_many_adapters_for_one_worker_take_a_second_image() -> None:
    demands = [demand("b", 0), *(demand(f"a{k}", 1, base="b") for k in range(6))]
    placed = place(workers(2), demands, copies=dict.fromkeys([d.expert for d in demands], 1))
    assert Counter(placed.of[f"a{k}"] for k in range(6)) == {("w0",): 3, ("w1",): 3}


def test_a_worker_of_twice_the_speed_gets_twice_the_load() -> None:
    there = [Worker("slow", "n0", ("f",), 1000, 80 * GB), Worker("fast", "n1", ("f",), 2000, 80 * GB)]
    demands = experts(1, 1, 1)
    placed = place(there, demands, copies=dict.fromkeys([d.expert for d in demands], 1))
    assert len(placed.on("fast")) == 2


def test_memory_is_a_bound_and_the_device_a_wish() -> None:
    tight = [Worker(f"w{k}", f"n{k}", ("f",), 1000.0, 20 * GB, 0, 0) for k in range(2)]
    placed = place(tight, experts(9, 1, 1, 1), copies={f"e{k}": 1 for k in range(4)})
    assert [len(placed.on(own.name)) for own in tight] == [2, 2]
    with pytest.raises(PlacementError, match=r"no worker of the family 'f' has room for e\d .*more memory"):
        place(tight, experts(1, 1, 1, 1, 1))
    loose = [Worker(f"w{k}", f"n{k}", ("f",), 1000.0, 20 * GB) for k in range(2)]
    assert len(place(loose, experts(1, 1, 1, 1, 1)).of) == 5


def test_a_copy_that_memory_has_no_room_for_is_left_out() -> None:
    tight = [Worker(f"w{k}", f"n{k}", ("f",), 1000.0, 20 * GB, 0, 0) for k in range(2)]
    assert copies(tight, experts(5, 5, 5, 0)) == {"e0": 1, "e1": 1, "e2": 1, "e3": 1}


def test_families_live_on_workers_of_their_own() -> None:
    there = [*workers(2), *workers(2, family="g", first=2), Worker("both", "n9", ("h", "i"), 1000.0, GB)]
    demands = [*experts(1, 1), *(demand(f"g{k}", 1) for k in range(2))]
    demands = [*demands[:2], *(d.__class__(d.expert, "g", d.rate, d.tokens, d.bytes) for d in demands[2:])]
    parts = list(groups(there, demands))
    assert [[worker.name for worker in own] for own, _ in parts] == [["w0", "w1"], ["w2", "w3"]]
    placed = place(there, demands)
    assert placed.workers <= {"w0", "w1", "w2", "w3"}
    assert {*placed.of["g0"], *placed.of["g1"]} <= {"w2", "w3"}


def test_moves_stay_within_the_bound() -> None:
    crowded = Placement({f"e{k}": ("w0",) for k in range(6)})
    ones = {f"e{k}": 1 for k in range(6)}
    for budget, moved in ((0.0, 0), (5.0, 1), (12.0, 2), (100.0, 3)):
        for small in (0, 64):
            placed = place(workers(2), experts(*[3.0] * 6), (), crowded, copies=ones, budget_s=budget, small=small)
            assert len(placed.on("w1")) == moved


def test_nobody_moves_where_only_what_is_missing_is_to_be_placed() -> None:
    crowded = Placement({"e0": ("w0",), "e1": ("w0",)})
    ones = {f"e{k}": 1 for k in range(3)}
    placed = place(workers(2), experts(1, 1, 1), (), crowded, copies=ones, stay=True)
    assert placed.of == {"e0": ("w0",), "e1": ("w0",), "e2": ("w1",)}


@pytest.mark.parametrize(
    ("there", "demands", "why"),
    [
        ([], experts(1), "got 0 workers and 1 experts"),
        (workers(1), [], "got 1 workers and 0 experts"),
        ([*workers(1), *workers(1)], experts(1), "the worker 'w0' is there twice"),
        (workers(1), [*experts(1), *experts(1)], "the expert 'e0' is there twice"),
        (workers(1), experts(float("nan")), "must be finite and at least 0"),
        (workers(1), [demand("a", 1, least=2, most=1)], "1 <= least <= most is needed"),
        (workers(1), [demand("a", 1, base="b")], "a: its base 'b' is no expert of the family 'f'"),
        (workers(1, family="g"), experts(1), "no worker serves the family 'f' of e0"),
    ],
)
def test_what_cannot_be_placed_is_told(there: list[Worker], demands: list[object], why: str) -> None:
    with pytest.raises(PlacementError, match=re.escape(why)):
        place(there, demands)  # type: ignore[arg-type]


def test_a_worker_keeps_the_images_on_its_device_that_serve_most_load_a_byte() -> None:
    there = workers(1, device=35 * GB)
    demands = [*experts(1, 3, 2, 0), demand("a", 9, base="e0")]
    held = holdings(place(there, demands), there, demands)
    # Two of 10 GB, and room for a third one beside them, which the engine turns to.
    assert held == {"w0": Holding(device=("e0", "e1"), near=("e2", "e3"))}
    roomy = workers(1, device=40 * GB)
    assert holdings(place(roomy, demands), roomy, demands)["w0"].device == ("e0", "e1", "e2")
