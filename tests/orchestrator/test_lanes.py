"""Estimates of waiting, with a clock that the test turns."""

import heapq

import pytest

from orchestrator.access.lanes import Lane, Ticket


def serve(lane: Lane, requests: int, seconds: float, now: float = 0.0) -> float:
    """`requests` in as many places as there are, each taking so long; returns the end."""
    assert lane.places
    for first in range(0, requests, lane.places):
        begun = [lane.begin(now) for _ in range(min(lane.places, requests - first))]
        now += seconds
        for ticket in begun:
            lane.end(ticket, now, answered=True)
    return now


def test_of_what_was_never_seen_nothing_is_said() -> None:
    lane = Lane(2)
    for _ in range(10):
        lane.begin(0.0)
    assert (lane.rate(5.0), lane.wait_s(5.0)) == (None, 0.0)


def test_a_free_place_is_no_wait() -> None:
    lane = Lane(2)
    now = serve(lane, 10, 3.0)
    lane.begin(now)
    assert lane.wait_s(now) == 0


@pytest.mark.parametrize("seconds", [0.1, 3.0, 40.0])
def test_the_kth_that_waits_begins_when_k_places_were_freed(seconds: float) -> None:
    lane = Lane(4)
    now = serve(lane, 40, seconds)
    for _ in range(4 + 3):
        lane.begin(now)
    assert lane.wait_s(now) == pytest.approx(4 * seconds / 4)
    assert lane.wait_s(now, ahead=8) == pytest.approx(8 * seconds / 4)


def test_a_lane_that_was_never_full_is_believed_to_serve_as_many_at_a_time_as_it_has_places() -> None:
    lane, now = Lane(4), 0.0
    for _ in range(20):
        ticket = lane.begin(now)
        now += 2.0
        lane.end(ticket, now, answered=True)
    assert lane.rate(now) == pytest.approx(4 / 2.0)


def test_the_estimate_follows_a_lane_that_slows_down() -> None:
    lane = Lane(2)
    now = serve(lane, 200, 1.0)
    assert lane.rate(now) == pytest.approx(2.0)
    now = serve(lane, 80, 10.0, now)
    assert lane.rate(now) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("load", [4, 8, 40])
def test_of_a_queue_inside_the_engine_only_the_ends_are_seen_and_they_tell_the_rate(load: int) -> None:
    """`load` requests are always in the lane; the engine, first come, first served, has 4 places of 2 s each."""
    lane, now, free = Lane(4), 0.0, [0.0] * 4
    under_way: list[tuple[float, int, Ticket]] = []
    for number in range(600):
        if len(under_way) == load:
            now, _, ticket = heapq.heappop(under_way)
            lane.end(ticket, now, answered=True)
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + 2.0)
        heapq.heappush(under_way, (begins + 2.0, number, lane.begin(now)))
    assert lane.rate(now) == pytest.approx(2.0, rel=0.15)


def test_a_lane_that_stands_still_is_seen_to_before_anything_ends() -> None:
    lane = Lane(2)
    now = serve(lane, 20, 1.0)
    lane.begin(now), lane.begin(now)
    assert lane.wait_s(now) == pytest.approx(0.5)
    assert lane.wait_s(now + 120) == pytest.approx(60)


def test_failures_do_not_make_a_lane_fast() -> None:
    lane = Lane(2)
    now = serve(lane, 20, 5.0)
    rate = lane.rate(now)
    for _ in range(100):
        lane.end(lane.begin(now), now, answered=False)
    assert (lane.rate(now), lane.in_lane) == (rate, 0)


def test_without_bound_nobody_waits() -> None:
    lane = Lane(None)
    for _ in range(100):
        lane.end(lane.begin(0.0), 1.0, answered=True)
    for _ in range(1000):
        lane.begin(1.0)
    assert lane.wait_s(1.0) == 0.0
