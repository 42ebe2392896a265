"""The bound on waiting: whoever waits has its turn in time."""

from tests.workers.swap_bench import LOAD, SWAP, Bench
from workers.simulation import Job, Machine, simulate
from workers.swap_policy import Decision, SwapPolicy, SwapSettings


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
