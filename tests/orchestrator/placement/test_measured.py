"""What the planner takes from what workers tell."""

import math

from orchestrator.placement.measured import BYTES_A_SECOND, room, selected_together, sized, worked
from orchestrator.placement.model import CoSelection
from tests.orchestrator.placement.instances import GB, experts
from workers.base import WorkerStats


def stats(family: str = "f", **told: object) -> WorkerStats:
    return WorkerStats(family, {}, **told)  # type: ignore[arg-type]


def test_an_image_is_as_large_as_any_worker_says_and_takes_as_long_as_loads_took() -> None:
    told = [
        stats(image_bytes={"e0": 4 * GB}),
        stats(
            image_bytes={"e0": 6 * GB, "e1": 0}, moved_bytes={"disk": 10 * GB, "host": GB}, moved_seconds={"disk": 5}
        ),
    ]
    first, second = sized(experts(1, 1), told)
    assert (first.bytes, first.load_s) == (6 * GB, 3.0)
    assert (second.bytes, second.load_s) == (10 * GB, 5.0)  # of which none knows better


def test_without_a_load_from_disk_those_from_host_memory_tell_and_without_any_it_is_assumed() -> None:
    [own] = sized(experts(1), [stats(moved_bytes={"host": 20 * GB}, moved_seconds={"host": 2.0})])
    assert own.load_s == 1.0
    [own] = sized(experts(1), [])
    assert own.load_s == 10 * GB / BYTES_A_SECOND


def test_families_that_take_turns_have_the_room_of_the_one_that_has_most() -> None:
    told = {"f": stats(room_bytes={"device": 10, "host": 1}), "g": stats("g", room_bytes={"device": 30})}
    assert room(told, "device", math.inf) == 30
    assert room(told, "host", 0.0) == 1
    assert room({"h": stats("h")}, "device", math.inf) == math.inf


def test_what_a_worker_has_done_is_of_all_its_families() -> None:
    told = {"f": stats(busy_seconds=2.0), "g": stats("g", busy_seconds=3.0)}
    assert worked({"e0": (3, 40), "e1": (1, 2)}, told) == (42, 5.0)


def test_pairs_are_counted_whoever_came_first_and_the_configuration_counts_too() -> None:
    counts = [{"a": {"b": 3}}, {"b": {"a": 2, "c": 1}}]
    assert {*selected_together(counts, [CoSelection("c", "b", 1.0), CoSelection("d", "a", 0.5)])} == {
        CoSelection("a", "b", 5.0),
        CoSelection("b", "c", 2.0),
        CoSelection("a", "d", 0.5),
    }
