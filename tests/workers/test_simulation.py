"""The test bed of swap policies, and policies beside the one that serves."""

import pytest

from tests.workers.swap_bench import at_once, run
from workers.simulation import FirstCome, Machine, fewest_loads, fewest_loads_in_order, simulate
from workers.swap_policy import Decision


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


def test_what_a_policy_does_not_admit_is_refused_unless_the_engine_is_not_strict() -> None:
    class Full(FirstCome):
        def admits(self, expert: str) -> bool:
            return expert != "B"

    strict, lenient = (simulate(Full(), at_once("A B"), Machine(), resident="A", strict=each) for each in (True, False))
    assert (strict.refused, strict.served) == (1, "A")
    assert (lenient.refused, lenient.served) == (0, "A B")
