"""The swap policy on a virtual clock: who computes next."""

import pytest

from tests.workers.swap_bench import LOAD, SWAP, Bench, at_once, run
from workers.simulation import Job
from workers.swap_policy import SwapPolicy, SwapSettings

# Turns


def test_requests_are_grouped_by_expert() -> None:
    result = run(at_once("A B C A B C"), resident="ABC")
    assert result.served == "A A B B C C"
    assert (result.swaps, result.loads) == (3, 0)


def test_whoever_comes_while_its_expert_is_active_joins() -> None:
    trace = [Job(0.0, "A", 3), Job(0.0, "B", 1), Job(0.04, "A", 1)]
    assert run(trace, resident="AB", activation=0.1).served == "A A B"


def test_after_its_quantum_the_active_expert_starts_nothing_that_is_later_than_what_waits() -> None:
    """The quantum is 9 swaps of 0.1 s. A's second request comes within it, B's after that, A's third last."""
    trace = [Job(0.0, "A", 40), Job(0.5, "A", 1), Job(1.5, "B", 1), Job(1.6, "A", 1)]
    result = run(trace, resident="AB", activation=0.1, step=lambda requests: 0.1)
    assert result.served == "A A B A"
    [first, *_] = result.turns
    assert first.ended == pytest.approx(0.1 + 40 * 0.1)  # it was drained, not cut short
    assert [len(turn.jobs) for turn in result.turns] == [2, 1, 1]


def test_the_quantum_is_the_swap_cost_times_what_is_left_of_the_overhead() -> None:
    bench = Bench("AB", overhead=0.1)  # 9 x 0.1 s
    bench.turn_of("A1")
    bench.ask("B1 A2")
    assert bench.decide(0.9).newest is None
    assert bench.decide(0.91).newest == bench.keys["B1"]


def test_a_load_counts_for_the_quantum_of_the_turn_that_follows_it() -> None:
    bench = Bench("A", "B", overhead=0.5, slots=2)
    bench.ask("B1")
    assert bench.decide(0.0).load == "B"
    bench.end_load("B")
    assert bench.decide(1.0).expert == "B"
    bench.ask("A1")
    assert bench.decide(1.0 + LOAD + SWAP).newest is None
    assert bench.decide(1.0 + LOAD + SWAP + 0.01).newest is not None


def test_an_idle_expert_that_is_asked_again_needs_no_swap() -> None:
    result = run([Job(0.0, "A", 1), Job(9.0, "A", 1)], resident="AB")
    assert result.swaps == 1


def test_a_more_urgent_request_ends_the_turn_after_the_quantum_and_its_requests_are_paused() -> None:
    bench = Bench("AB", overhead=0.5)
    bench.turn_of("A1")
    bench.ask("B1", priority=-1)
    assert bench.decide(SWAP).expert == "A"
    assert bench.decide(SWAP + 0.01).expert == "B"
    assert bench.policy.counts() == {"A": (0, 1), "B": (1, 0)}
    bench.start("B1")
    bench.finish("B1")
    assert bench.decide(1.0).expert == "A"


def test_an_equally_urgent_request_does_not_end_the_turn() -> None:
    bench = Bench("AB", overhead=0.5)
    bench.ask("A1", priority=-1)
    bench.turn_of("A2")
    bench.ask("B1", priority=-1)
    assert bench.decide(5.0).expert == "A"


def test_a_preempted_request_keeps_its_place() -> None:
    bench = Bench("AB")
    bench.turn_of("A1")
    bench.ask("B1 A2")
    bench.policy.requeue("A1")
    decision = bench.decide(100.0)
    assert decision.expert == "A"  # A1 is earlier than B1
    bench.finish("A1")
    assert bench.decide(100.0).expert == "B"


# The order


def test_one_callers_requests_are_in_the_order_of_arrival() -> None:
    policy = SwapPolicy(SwapSettings())
    keys = [policy.arrive(str(n), "A", 0.0) for n in range(50)]
    assert keys == sorted(keys)


def test_a_request_is_not_behind_another_callers_flood() -> None:
    policy = SwapPolicy(SwapSettings())
    flood = [policy.arrive(f"flood {n}", "A", 0.0, caller="many") for n in range(1000)]
    for n in range(3):
        policy.start(f"flood {n}")
    one = policy.arrive("one", "A", 0.0, caller="few")
    other = policy.arrive("other", "B", 0.0, caller="others")
    assert flood[2] < one < other < flood[3]


def test_a_callers_flood_of_one_expert_does_not_delay_the_turn_of_another_expert() -> None:
    bench = Bench("AB", overhead=0.5)
    bench.ask(" ".join(f"A{n}" for n in range(1000)), caller="many")
    assert bench.decide(0.0).expert == "A"
    bench.start("A0 A1 A2")  # what fits a batch
    bench.ask("B1", caller="few")
    bench.finish("A0 A1 A2")
    assert bench.decide(0.05).expert == "A"  # within its quantum
    assert bench.decide(1.00).expert == "B"


def test_a_caller_who_was_away_has_no_credit_from_that_time() -> None:
    policy = SwapPolicy(SwapSettings())
    policy.arrive("old", "A", 0.0, caller="few")
    policy.start("old")
    for n in range(200):
        policy.arrive(f"{n}", "A", 0.0, caller="many")
        policy.start(f"{n}")
    last = policy.arrive("next", "A", 0.0, caller="many")
    back = policy.arrive("back", "A", 0.0, caller="few")
    assert policy.arrive("back again", "A", 0.0, caller="few") > last > back


def test_what_a_caller_has_in_the_queue_is_known_among_any_number_of_callers() -> None:
    policy = SwapPolicy(SwapSettings())
    flood = [policy.arrive(f"flood {n}", "A", 0.0, caller="many") for n in range(10)]
    others = [policy.arrive(f"other {n}", "A", 0.0, caller=f"c{n}") for n in range(500)]
    assert max(others) < flood[1]
    assert policy.arrive("flood 10", "A", 0.0, caller="many") > flood[9]


def test_priority_goes_before_all_else() -> None:
    policy = SwapPolicy(SwapSettings())
    late, early = (policy.arrive(str(n), "A", 0.0, priority=n) for n in (1, 0))
    assert early < late


# The budget for swapping


def test_what_is_on_the_device_goes_first_while_the_budget_is_used_up() -> None:
    bench = Bench("AB", "CD", overhead=0.1, slots=3)
    bench.turn_of("A1")
    bench.ask("C1")
    assert bench.decide(0.0).load == "C"
    bench.end_load("C")  # the credit is spent
    bench.ask("D1 B1")
    bench.finish("A1 C1")
    decision = bench.decide(0.1)
    assert (decision.expert, decision.load) == ("B", None)
    assert bench.policy.credit < LOAD
    assert bench.decide(9.0).load is None
    assert bench.decide(12.0).load == "D"  # a second of load is earned in ten of work


def test_no_credit_is_earned_without_work() -> None:
    bench = Bench("A", "B", slots=2)
    bench.ask("B1")
    bench.decide(0.0)
    bench.end_load("B")
    bench.finish("B1")
    bench.decide(1.0)
    spent = bench.policy.credit
    bench.decide(100.0)
    assert bench.policy.credit == spent


def test_every_swap_is_paid_and_no_more_than_one_load_is_saved_up() -> None:
    bench = Bench("AB", "C")
    bench.turn_of("A1")
    assert bench.policy.credit == pytest.approx(LOAD + SWAP)
    bench.policy.swapped(SWAP)
    assert bench.policy.credit == pytest.approx(LOAD)
    bench.decide(1000.0)
    assert bench.policy.credit == pytest.approx(LOAD + SWAP)


def test_the_engine_does_not_idle_for_want_of_credit() -> None:
    bench = Bench("A", "BC", overhead=0.01, slots=3)
    for expert in "BC":
        bench.ask(f"{expert}1")
        assert bench.decide(0.0).load == expert
        bench.end_load(expert)
        bench.finish(f"{expert}1")
    assert bench.policy.credit < 0.0


# Refused input


def test_an_image_that_the_device_cannot_hold_is_refused() -> None:
    policy = SwapPolicy(SwapSettings(), capacity=5)
    with pytest.raises(ValueError, match="the image of A has 6 bytes, the device holds 5: raise the device's budget"):
        policy.place("A", "disk", 6)
    policy = SwapPolicy(SwapSettings(pinned=frozenset("A")), capacity=5)
    policy.place("A", "disk", 3)
    with pytest.raises(
        ValueError, match="the image of B has 3 bytes, the device holds 5 beside 3 bytes of pinned images"
    ):
        policy.place("B", "disk", 3)


def test_settings_out_of_range_are_refused() -> None:
    for overhead in (0.0, 1.0):
        with pytest.raises(ValueError, match="overhead is"):
            SwapSettings(overhead=overhead)
    with pytest.raises(ValueError, match="max_wait is 0"):
        SwapSettings(max_wait=0)


def test_an_id_in_use_and_a_load_from_the_device_are_refused() -> None:
    policy = SwapPolicy(SwapSettings())
    policy.arrive("1", "A", 0.0)
    with pytest.raises(ValueError, match="request 1 has not finished"):
        policy.arrive("1", "A", 0.0)
    with pytest.raises(ValueError, match="it can come from host or disk"):
        policy.loaded("A", "device", 1.0)
