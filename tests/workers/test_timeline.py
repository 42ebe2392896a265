"""Events to spans (`workers.timeline`): for the table of `coe experts --watch` and the benchmarks' picture."""

from workers.base import SwapEvent
from workers.steps import SwapLog
from workers.timeline import timeline


def event(at: float, kind: str, image: str, why: str = "", seconds: float = 0.0, source: str = "device") -> SwapEvent:
    return SwapEvent(0, at, kind, image, source, "device", 0, seconds, why)


def test_a_turn_ends_with_the_next_swap() -> None:
    events = [event(2, "swap", "b", "after a"), event(5, "swap", "a", "after b")]
    assert timeline(events, 0, 10).turns == [("a", 0, 2), ("b", 2, 5), ("a", 5, 10)]


def test_the_log_of_an_engine_tells_who_had_the_turn_before() -> None:
    log = SwapLog()
    log.swapped("a", "b", 0, 0.0)
    [swap] = log.stats()["events"]
    assert timeline([swap], swap.at - 1, swap.at + 1).turns == [
        ("a", swap.at - 1, swap.at),
        ("b", swap.at, swap.at + 1),
    ]
    log = SwapLog()
    log.swapped(None, "b", 0, 0.0)
    [swap] = log.stats()["events"]
    assert timeline([swap], swap.at - 1, swap.at + 1).turns == [("b", swap.at, swap.at + 1)]


def test_without_a_swap_the_active_expert_has_the_turn() -> None:
    assert timeline([], 0, 10, active="a").turns == [("a", 0, 10)]
    assert timeline([event(4, "loaded", "a")], 0, 10, active="a").turns == [("a", 4, 10)]  # not before it was there
    assert timeline([], 0, 10).turns == []


def test_an_image_that_is_gone_has_no_turn() -> None:
    for kind in ("evicted", "failed"):
        events = [event(2, "swap", "a"), event(5, kind, "a")]
        assert timeline(events, 0, 10).turns == [("a", 2, 5)]
    events = [event(2, "swap", "a"), event(5, "failed", "a", source="disk"), event(6, "evicted", "b")]
    assert timeline(events, 0, 10).turns == [("a", 2, 10)]  # a load that failed, and another image


def test_images_are_on_the_device_from_load_to_eviction() -> None:
    events = [event(3, "evicted", "a"), event(4, "loaded", "b", seconds=1.5), event(6, "evicted", "b")]
    told = timeline([*events, event(7, "loaded", "b", seconds=0.5)], 0, 10, resident=("b", "c"))
    assert told.residencies == [("a", 0, 3), ("b", 4, 6), ("b", 7, 10), ("c", 0, 10)]
    assert told.loads == [("b", 2.5, 4), ("b", 6.5, 7)]


def test_what_came_before_tells_how_it_was() -> None:
    events = [event(-9, "loaded", "a", seconds=1), event(-8, "swap", "a"), event(-7, "loaded", "b", seconds=9)]
    told = timeline(events, 0, 10)
    assert told.turns == [("a", 0, 10)]
    assert told.residencies == [("a", 0, 10), ("b", 0, 10)]
    assert told.loads == []


def test_a_family_that_sleeps_has_no_turn_and_nothing_on_the_device() -> None:
    events = [event(1, "loaded", "a"), event(2, "swap", "a"), event(5, "slept", "f")]
    asleep = timeline(events, 0, 10, active=None)
    assert (asleep.turns, asleep.residencies) == ([("a", 2, 5)], [("a", 1, 5)])
    awake = timeline([*events, event(8, "woke", "f")], 0, 10, active="a", resident="a")
    assert (awake.turns, awake.residencies) == ([("a", 2, 5), ("a", 8, 10)], [("a", 1, 5), ("a", 8, 10)])


def test_what_no_event_tells_holds_since_the_family_woke() -> None:
    told = timeline([event(5, "slept", "f"), event(8, "woke", "f")], 0, 10, active="a", resident=["a", "b"])
    assert told.turns == [("a", 8, 10)]
    assert told.residencies == [("a", 8, 10), ("b", 8, 10)]
