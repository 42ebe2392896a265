"""When a placement changes: for what is missing at once, for load that has shifted to stay, and by how much."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.placement.copies import copies
from orchestrator.placement.model import Demand, Placement, PlacementError, Worker, make_problem, terms
from orchestrator.placement.place import place
from orchestrator.placement.replan import Bounds, replan
from tests.orchestrator.placement.instances import experts, workers

PATIENT = settings(deadline=None, database=None, max_examples=30)
loads = st.lists(st.floats(0.5, 8), min_size=2, max_size=12)


def balance(placement: Placement, there: Sequence[Worker], demands: Sequence[Demand]) -> float:
    problem = make_problem(there, demands, copies(there, demands))
    return terms(problem, problem.matrix(placement)).balance


@PATIENT
@given(loads, st.integers(1, 6))
def test_stable_load_moves_nothing(rates: list[float], number: int) -> None:
    there, demands = workers(number), experts(*rates)
    placed = place(there, demands)
    assert replan(placed, there, [demands] * 3) is None


@PATIENT
@given(loads, st.integers(1, 6), st.data())
def test_load_that_swings_within_the_band_moves_nothing(rates: list[float], number: int, data: st.DataObject) -> None:
    there, demands = workers(number), experts(*rates)
    placed = place(there, demands)
    swing = 0.1
    assume(balance(placed, there, demands) * (1 + swing) / (1 - swing) <= 1 + Bounds().band)
    factors = st.lists(st.floats(1 - swing, 1 + swing), min_size=len(rates), max_size=len(rates))
    windows = [
        [replace(own, rate=own.rate * factor) for own, factor in zip(demands, data.draw(factors), strict=True)]
        for _ in range(4)
    ]
    assert replan(placed, there, windows) is None


def test_load_that_swings_about_the_mean_moves_nothing_however_much() -> None:
    there, demands = workers(2), experts(5, 5, 5, 5)
    placed = Placement({"e0": ("w0",), "e1": ("w0",), "e2": ("w1",), "e3": ("w1",)})
    one, other = experts(9, 9, 1, 1), experts(1, 1, 9, 9)
    assert replan(placed, there, [one, demands, other]) is None
    assert replan(placed, there, [one, other, one, other]) is None


def test_load_that_shifts_to_stay_moves_few() -> None:
    there = workers(4)
    placed = Placement({f"e{k}": (f"w{k % 4}",) for k in range(16)})
    shifted = experts(*[4 if k % 4 == 0 else 1 for k in range(16)])  # all four of w0
    change = replan(placed, there, [shifted] * 3)
    assert change is not None
    assert balance(placed, there, shifted) > 2 > 1.25 > balance(change.placement, there, shifted)
    assert len(change.loads) <= 6
    assert change.missing == ()
    assert {load.expert for load in change.loads} <= {*change.shifted}
    assert replan(change.placement, there, [shifted] * 3) is None


def test_one_window_of_it_is_not_enough() -> None:
    there, before = workers(2), experts(5, 5, 5, 5)
    placed = Placement({"e0": ("w0",), "e1": ("w0",), "e2": ("w1",), "e3": ("w1",)})
    shifted = experts(9, 9, 1, 1)
    assert replan(placed, there, [before, before, shifted]) is None
    assert replan(placed, there, [shifted, shifted]) is None
    assert replan(placed, there, [shifted, shifted, shifted]) is not None


def test_workers_that_are_not_busy_are_left_as_they_are() -> None:
    placed = Placement({"e0": ("w0",), "e1": ("w0",), "e2": ("w1",), "e3": ("w1",)})
    assert replan(placed, workers(2), [experts(0.9, 0.9, 0.1, 0.1)] * 3) is None
    assert replan(placed, workers(2), [experts(0, 0, 0, 0)] * 3) is None


@PATIENT
@given(loads, st.integers(2, 6), st.data())
def test_of_a_lost_worker_only_its_experts_move(rates: list[float], number: int, data: st.DataObject) -> None:
    there, demands = workers(number), experts(*rates)
    placed = place(there, demands)
    lost = data.draw(st.sampled_from([worker.name for worker in there]))
    left = [worker for worker in there if worker.name != lost]
    change = replan(placed, left, [demands] * 3)
    assume(placed.on(lost))
    assert change is not None
    assert {load.expert for load in change.loads} <= {*change.missing} <= {*placed.on(lost)}
    assert change.shifted == ()
    for name, homes in change.placement.of.items():
        assert lost not in homes
        assert {*placed.of[name]} - {lost} <= {*homes}
        assert len(homes) == min(len(placed.of[name]), len(left))


@PATIENT
@given(loads, st.integers(1, 4), st.floats(0, 60))
def test_a_new_worker_draws_load_within_the_bound(rates: list[float], number: int, budget: float) -> None:
    demands = experts(*rates)
    placed = place(workers(number), demands)
    there = workers(number + 1)
    change = replan(placed, there, [demands] * 3, bounds=Bounds(budget_s=budget))
    if change is not None:
        assert change.seconds <= budget + 1e-6
        assert change.placement.on(f"w{number}")
        assert balance(change.placement, there, demands) < balance(placed, there, demands)


def test_a_new_worker_draws_load() -> None:
    demands = experts(*[3.0] * 12)
    placed = Placement({f"e{k}": (f"w{k % 3}",) for k in range(12)})
    change = replan(placed, workers(4), [demands] * 3)
    assert change is not None
    assert len(change.placement.on("w3")) == 3
    assert change.seconds == 15.0


def test_a_new_expert_is_placed_at_once_and_one_that_is_gone_is_forgotten() -> None:
    placed = Placement({"e0": ("w0",), "gone": ("w1",)})
    change = replan(placed, workers(2), [experts(2, 2)])
    assert change is not None
    assert change.placement.of == {"e0": ("w0",), "e1": ("w1",)}
    assert change.missing == ("e1",)
    assert [(load.expert, load.worker, load.seconds) for load in change.loads] == [("e1", "w1", 5.0)]


def test_more_workers_are_found_for_an_expert_whose_least_was_raised() -> None:
    placed = Placement({"e0": ("w0",)})
    change = replan(placed, workers(2), [[replace(experts(1)[0], least=2)]])
    assert change is not None
    assert {*change.placement.of["e0"]} == {"w0", "w1"}


def test_without_a_window_there_is_no_plan() -> None:
    with pytest.raises(PlacementError, match="got no window of demands"):
        replan(Placement(), workers(1), [])


def test_after_a_lost_worker_comes_back_the_next_plans_settle() -> None:
    demands = experts(*[3.0] * 9)
    placed = place(workers(3), demands)
    change = replan(placed, workers(2), [demands] * 3)
    assert change is not None
    back = replan(change.placement, workers(3), [demands] * 3)
    assert back is not None
    assert balance(back.placement, workers(3), demands) < 1.2
    assert replan(back.placement, workers(3), [demands] * 3) is None
