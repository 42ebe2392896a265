"""The swap policy on a virtual clock: who computes next, what is loaded and what is evicted for it."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from workers.simulation import FirstCome, Job, Machine, Result, fewest_loads, fewest_loads_in_order, simulate
from workers.swap_policy import Decision, Key, SwapPolicy, SwapSettings

LOAD = 1.0
SWAP = 0.1


def at_once(experts: str, steps: int = 1) -> list[Job]:
    """A job for each expert named, all at time 0, in this order."""
    return [Job(0.0, expert, steps) for expert in experts.split()]


def run(
    trace: list[Job],
    *,
    slots: float = math.inf,
    resident: str = "",
    policy: SwapPolicy | FirstCome | None = None,
    **machine: Any,
) -> Result:
    """On a policy that knows what a swap takes, if no other one is given. machine: fields of `Machine`."""
    its = Machine(capacity=slots, **machine)
    if policy is None:
        policy = SwapPolicy(SwapSettings(), capacity=slots)
        policy.swapped(its.activation)
    return simulate(policy, trace, its, resident=resident)


class Bench:
    """A policy whose costs are known, driven by hand. Images have one byte; no time passes that is not told."""

    def __init__(
        self,
        resident: str = "",
        others: str = "",
        *,
        overhead: float = 0.5,
        max_wait: float = 1000.0,
        pinned: str = "",
        sizes: Mapping[str, int] | None = None,
        slots: float | None = None,
    ) -> None:
        self.sizes = sizes or {}
        held = sum(self.size(expert) for expert in resident)
        self.policy = SwapPolicy(
            SwapSettings(overhead, max_wait, frozenset(pinned)), capacity=held if slots is None else slots
        )
        self.keys: dict[str, Key] = {}
        self.policy.swapped(SWAP)
        for expert in resident:
            self.policy.place(expert, "device", self.size(expert))
        for expert in others:
            self.policy.place(expert, "disk", self.size(expert))
        if others:
            self.policy.loaded(others[0], "disk", LOAD * self.size(others[0]))
        self.policy.stepped(0.0, 0.01)

    def size(self, expert: str) -> int:
        return self.sizes.get(expert, 1)

    def ask(self, requests: str, now: float = 0.0, *, priority: int = 0, caller: str = "") -> None:
        """Requests, named by their expert and a number: "A1 B1"."""
        for request in requests.split():
            self.keys[request] = self.policy.arrive(request, request[0], now, priority=priority, caller=caller)

    def start(self, requests: str) -> None:
        for request in requests.split():
            self.policy.start(request)

    def finish(self, requests: str) -> None:
        for request in requests.split():
            self.policy.finish(request)

    def decide(self, now: float) -> Decision:
        return self.policy.decide(now)

    def turn_of(self, request: str, now: float = 0.0) -> None:
        """The request is asked and started, and its expert has the turn."""
        self.ask(request, now)
        assert self.decide(now).expert == request[0]
        self.start(request)
        self.policy.stepped(now + 0.01, 0.01)

    def end_load(self, expert: str, evicted: str = "") -> None:
        for victim in evicted:
            self.policy.place(victim, "host", self.size(victim))
        self.policy.loaded(expert, "disk", LOAD * self.size(expert))
        self.policy.place(expert, "device", self.size(expert))


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


# The bound on waiting


def test_an_endless_turn_is_cut_when_the_bound_demands_it_and_not_before() -> None:
    bench = Bench("AB", max_wait=10.0)
    bench.turn_of("A1")
    bench.ask("B1", now=2.0)
    assert bench.decide(11.99) == Decision("A", bench.keys["B1"], None, (), False)
    assert bench.decide(12.01) == Decision("B", None, None, (), True)


def test_those_that_must_have_a_turn_have_it_in_time_for_all_that_follow() -> None:
    bench = Bench("AB", "C", max_wait=10.0)
    bench.turn_of("A1")
    bench.ask("B1 C1")
    # C's image is loaded during B's turn, which is shorter; when it has come, a step of another turn may be under way.
    latest = 10.0 - (LOAD + SWAP + 0.01)
    assert bench.decide(latest - 0.01) == Decision("A", bench.keys["B1"], None, (), False)
    assert bench.decide(latest) == Decision("B", None, None, (), True)
    bench.start("B1")
    bench.policy.stepped(latest + 0.01, 0.01)
    assert bench.decide(latest + 0.01) == Decision("A", None, "C", ("B",), True)


def test_turns_shrink_by_one_factor_when_full_ones_do_not_fit_the_bound() -> None:
    """Five endless streams, quanta of 9 x 1 s, max_wait 20 s: each turn gets what is left after five swaps, equally."""
    trace = [Job(0.0, expert, 2000) for expert in "ABCDE"]
    policy = SwapPolicy(SwapSettings(max_wait=20.0))
    result = simulate(policy, trace, Machine(activation=1.0, step=lambda requests: 0.1), resident="ABCDE")
    settled = [turn.ended - turn.began for turn in result.turns[10:60]]
    assert all(3.0 < length < 6.0 for length in settled)
    assert "".join(turn.expert for turn in result.turns[10:60]) in "ABCDE" * 12
    assert all(turn.hungry <= 20.0 + 1e-6 for turn in result.turns[10:60])


def test_a_forced_expert_is_served_as_soon_as_its_image_has_come() -> None:
    bench = Bench("A", "BC", max_wait=3.0)
    bench.turn_of("A1")
    bench.ask("B1")
    forced = bench.decide(2.9)
    assert (forced.expert, forced.load, forced.evict, forced.forced) == (None, "B", ("A",), True)
    bench.ask("C1", priority=-9, now=3.0)
    bench.end_load("B", evicted="A")
    assert bench.decide(3.9) == Decision("B", None, None, (), True)


def test_who_waits_and_loses_its_image_has_it_back_in_time() -> None:
    bench = Bench("AB", "C", max_wait=10.0)
    bench.turn_of("A1")
    bench.ask("B1")
    bench.ask("C1", priority=-1)
    assert bench.decide(0.2) == Decision("A", None, "C", ("B",), False)
    bench.end_load("C", evicted="B")
    assert bench.decide(1.3).expert == "C"
    bench.start("C1")
    bench.policy.stepped(1.4, 0.01)
    latest = 10.0 - (LOAD + SWAP + 0.01)
    assert bench.decide(latest - 0.01) == Decision("C", bench.keys["A1"], None, (), False)
    assert bench.decide(latest + 0.01) == Decision("A", None, "B", ("C",), True)


def test_a_turn_has_a_step_whoever_waits() -> None:
    bench = Bench("AB", max_wait=1.0)
    bench.ask("A1 B1")
    assert bench.decide(10.0).expert == "A"
    bench.start("A1")
    assert bench.decide(10.005).expert == "A"  # a step takes 0.01 s
    bench.policy.stepped(10.006, 0.006)
    assert bench.decide(10.006) == Decision("B", None, None, (), True)


def test_turns_that_run_out_of_work_are_not_expected_to_last_a_quantum() -> None:
    bench = Bench("ABC", overhead=0.01, max_wait=10.0)  # quanta of 9.9 s, of which no two fit into max_wait
    bench.turn_of("A1")
    bench.finish("A1")
    assert bench.decide(0.2).expert is None
    bench.ask("A2 B1 C1", now=0.2)
    assert bench.decide(0.2).expert == "A"
    bench.start("A2")
    assert not bench.decide(9.8).forced
    assert bench.decide(10.0 + 0.2 - 0.11 - 0.2 + 0.01) == Decision("B", None, None, (), True)


def test_a_forced_load_takes_the_place_of_the_one_under_way() -> None:
    bench = Bench("AB", "CD", max_wait=10.0)
    bench.turn_of("A1")
    bench.policy.swapped(2.0)  # no credit is left
    bench.ask("D1")
    assert bench.decide(0.0).load is None
    bench.ask("C1", now=8.0, priority=-1)
    assert bench.decide(8.0).load == "C"
    forced = bench.decide(9.5)
    assert (forced.load, forced.forced) == ("D", True)
    assert bench.decide(9.6).load == "D"


def test_nobody_new_is_admitted_when_one_step_each_would_not_keep_the_bound() -> None:
    bench = Bench("A", "BCD", max_wait=4.0)  # a turn may take 1 s of loading and 0.22 s
    for expert in "ABC":
        assert bench.policy.admits(expert)
        bench.ask(f"{expert}1")
    assert not bench.policy.admits("D")
    assert bench.policy.admits("A")  # has requests already
    bench.finish("B1")
    assert bench.policy.admits("D")


def test_the_oldest_wait_is_that_of_the_hungriest_expert() -> None:
    bench = Bench("ABC")
    bench.turn_of("A1")
    bench.ask("B1", now=1.0)
    bench.ask("C1 B2", now=2.0)
    assert bench.policy.oldest_wait(5.0) == 4.0
    bench.finish("B1")
    assert bench.policy.oldest_wait(5.0) == 3.0
    bench.finish("B2 C1")
    assert bench.policy.oldest_wait(5.0) == 0.0


# Loads and evictions


def test_the_next_image_is_loaded_while_the_active_expert_computes() -> None:
    bench = Bench("AB", "C")
    bench.turn_of("A1")
    bench.ask("C1")
    assert bench.decide(0.0) == Decision("A", None, "C", ("B",), False)


def test_a_load_is_given_up_when_nobody_wants_it_any_more() -> None:
    bench = Bench("AB", "CD")
    bench.turn_of("A1")
    bench.ask("C1 D1")
    assert bench.decide(0.0).load == "C"
    bench.finish("C1")
    assert bench.decide(0.0).load == "D"
    bench.finish("D1")
    assert bench.decide(0.0) == Decision("A", None, None, (), False)


def test_a_load_under_way_is_not_changed_for_one_that_came_before_it_in_order() -> None:
    bench = Bench("AB", "CD")
    bench.turn_of("A1")
    bench.ask("C1")
    assert bench.decide(0.0).load == "C"
    bench.ask("D1", priority=-1)
    assert bench.decide(0.05).load == "C"


def test_images_without_requests_go_first_the_least_in_demand_before_the_others() -> None:
    bench = Bench("ABCD", "E")
    for expert, asked, when in (("B", 5, 0.0), ("C", 2, 0.0), ("D", 3, 0.0)):
        for n in range(asked):
            bench.ask(f"{expert}{n}", now=when)
            bench.finish(f"{expert}{n}")
    bench.turn_of("A1", now=1.0)
    bench.ask("E1", now=1.0)
    assert bench.decide(1.0).evict == ("C",)


def test_demand_fades() -> None:
    bench = Bench("ABC", "D")
    for n in range(4):
        bench.ask(f"B{n}", now=0.0)
        bench.finish(f"B{n}")
    bench.ask("C1", now=180.0)  # four arrivals are half of one after three half lives
    bench.finish("C1")
    bench.turn_of("A1", now=180.0)
    bench.ask("D1", now=180.0)
    assert bench.decide(180.0).evict == ("B",)


def test_of_images_with_requests_the_one_whose_turn_is_furthest_goes() -> None:
    bench = Bench("ABC", "D", overhead=0.5)
    bench.turn_of("A1")
    bench.ask("D1 C1 B1 C2")
    assert bench.decide(0.0).load is None  # nothing is evicted ahead of time that has requests
    assert bench.decide(0.2) == Decision("A", bench.keys["D1"], "D", ("B",), False)


def test_paused_requests_keep_their_image_while_there_is_another_choice() -> None:
    bench = Bench("ABC", "D", overhead=0.5)
    bench.turn_of("A1")
    bench.ask("B1", priority=-1)
    bench.decide(1.0)
    bench.start("B1")  # A1 is paused
    bench.ask("D1", now=1.0, priority=-2)
    bench.ask("C1", now=1.0, priority=-1)
    assert bench.decide(2.0).evict == ("C",)


def test_a_pinned_image_and_the_active_one_stay() -> None:
    bench = Bench("ABC", "D", pinned="B")
    bench.turn_of("A1")
    bench.ask("D1 C1 B1")  # B's turn is the furthest
    assert bench.decide(1.0).evict == ("C",)
    bench = Bench("ABC", "D", pinned="B")  # and without requests
    bench.turn_of("A1")
    bench.ask("C1 D1")
    bench.finish("C1")
    assert bench.decide(1.0).evict == ("C",)


def test_what_images_share_takes_room_once() -> None:
    bench = Bench("AB", "CD", slots=4)
    bench.policy.resize({}, 2)
    bench.turn_of("A1")
    bench.ask("C1")
    decision = bench.decide(0.01)
    assert (decision.load, decision.evict) == ("C", ("B",))
    bench.policy.resize({}, 9)  # more than the device has: one image beside the pinned ones is always possible
    bench.end_load("C", "B")
    bench.finish("A1")
    assert bench.decide(2.0).expert == "C"


def test_an_image_that_was_measured_takes_what_it_takes() -> None:
    bench = Bench("AB", "C", sizes={"A": 4, "B": 4, "C": 4}, slots=8)
    bench.policy.resize({"A": 2, "B": 2}, 0)
    bench.turn_of("A1")
    bench.ask("C1")
    decision = bench.decide(0.01)
    assert (decision.load, decision.evict) == ("C", ())


def test_as_few_images_go_as_are_needed() -> None:
    bench = Bench("ABC", "D", sizes={"B": 1, "C": 3, "D": 3})
    bench.ask("C0")
    bench.finish("C0")  # more in demand than B, but B alone is not enough
    bench.turn_of("A1")
    bench.ask("D1")
    assert bench.decide(0.0).evict == ("C",)


def test_a_device_for_one_image_loads_between_the_turns() -> None:
    bench = Bench("A", "B")
    bench.turn_of("A1")
    bench.ask("B1")
    assert bench.decide(1.0).expert == "A"
    bench.finish("A1")
    assert bench.decide(2.0) == Decision(None, None, "B", ("A",), False)
    bench.end_load("B", evicted="A")
    assert bench.decide(3.0) == Decision("B", None, None, (), False)


def test_an_image_that_was_loaded_has_a_turn_before_it_goes() -> None:
    bench = Bench("A", "BC")
    bench.ask("B1")
    bench.decide(0.0)
    bench.end_load("B", evicted="A")
    bench.ask("C1", priority=-1)
    assert bench.decide(5.0) == Decision("B", None, None, (), False)


def test_a_failed_image_is_not_chosen_until_it_is_placed_again() -> None:
    bench = Bench("AB")
    bench.turn_of("A1")
    bench.policy.remove("A")
    assert bench.decide(0.0) == Decision(None, None, None, (), False)
    bench.ask("B1")
    assert bench.decide(0.0).expert == "B"
    bench.finish("B1")
    bench.policy.place("A", "device", 1)
    assert bench.decide(0.0).expert == "A"


def test_an_engine_that_lost_the_active_image_loads_it_again() -> None:
    bench = Bench("A", "B")
    bench.turn_of("A1")
    bench.policy.place("A", "disk", 1)
    assert bench.decide(0.1).load == "A"


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


# Beside other policies, on the test bed


def test_first_come_first_served_swaps_for_each_run_of_the_queue() -> None:
    queue = "A A B A C C B"
    result = run(at_once(queue), slots=2, resident="AB", policy=FirstCome(capacity=2))
    assert (result.served, result.swaps, result.loads) == (queue, 5, 2)


def test_alone_each_request_waits_for_the_one_before_it() -> None:
    trace = at_once("A A", steps=10)
    together = run(trace, resident="A", policy=FirstCome(), activation=0.0)
    alone = run(trace, resident="A", policy=FirstCome(together=False), activation=0.0)
    assert together.waits == [0.0, 0.0]
    assert alone.waits == pytest.approx([0.0, 0.3])


def test_the_least_number_of_loads_in_order_is_beladys() -> None:
    """The textbook's reference string: 9 faults with three frames."""
    string = "7 0 1 2 0 3 0 4 2 3 0 3 2 1 2 0 1 7 0 1"
    assert fewest_loads_in_order(at_once(string), 3) == 9
    assert fewest_loads_in_order(at_once(string), 3, resident="701") == 6
    assert fewest_loads(at_once(string)) == 6
    assert fewest_loads(at_once(string), resident="70") == 4


def test_the_test_bed_tells_where_the_seconds_went() -> None:
    result = run(at_once("A B", steps=2), slots=1, resident="A", activation=0.5, load=3.0, step=lambda requests: 0.25)
    assert (result.busy_seconds, result.swap_seconds, result.load_seconds, result.idle_seconds) == (1.0, 1.0, 3.0, 3.0)
    assert result.finishes == [1.0, 5.0]
    assert (result.steps, result.swaps, result.loads, result.cancelled, result.refused) == (4, 2, 1, 0, 0)


def test_the_test_bed_refuses_what_no_engine_could_do() -> None:
    class Greedy(FirstCome):
        """Evicts nothing."""

        def decide(self, now: float) -> Decision:
            decision = super().decide(now)
            return Decision(decision.expert, None, None, (), False)

    with pytest.raises(RuntimeError, match="B is to be loaded, and the device holds 1 bytes already"):
        run(at_once("A B"), slots=1, resident="A", policy=Greedy(capacity=1))
