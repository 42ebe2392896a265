"""What is loaded, and what is evicted for it."""

from tests.workers.swap_bench import Bench
from workers.swap_policy import Decision


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
