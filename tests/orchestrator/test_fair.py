"""Weighted max-min shares of places, without clock or event loop."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.access.fair import FairShare, Waiter


def come(fair: FairShare, caller: str, count: int, weight: float = 1.0) -> list[Waiter]:
    """Requests of that caller, which run or wait."""
    waiters = [Waiter(caller, weight) for _ in range(count)]
    for waiter in waiters:
        fair.wait(waiter)
        fill(fair)
    return waiters


def fill(fair: FairShare) -> list[str]:
    started = []
    while waiter := fair.next():
        fair.leave(waiter)
        fair.start(waiter.caller)
        started.append(waiter.caller)
    return started


def free(fair: FairShare, caller: str) -> list[str]:
    """A request of that caller ends; who starts?"""
    fair.end(caller)
    return fill(fair)


def test_a_key_alone_holds_all_places() -> None:
    fair = FairShare(4)
    come(fair, "a", 9)
    assert (fair.running, fair.waiting, fair.is_free) == (Counter(a=4), 5, False)


def test_when_another_key_comes_both_get_half_as_places_are_freed() -> None:
    fair = FairShare(4)
    come(fair, "a", 9)
    come(fair, "b", 3)
    assert free(fair, "a") == ["b"]
    assert free(fair, "a") == ["b"]
    assert fair.running == Counter(a=2, b=2)
    assert free(fair, "b") == ["b"]  # it has one more, and is back at its half
    assert free(fair, "b") == ["a"]  # it waits no more


def test_weights_share_places_in_proportion() -> None:
    fair = FairShare(9)
    come(fair, "a", 9)
    come(fair, "interactive", 20, weight=8.0)
    come(fair, "batch", 20, weight=1.0)
    for _ in range(9):
        free(fair, "a")
    assert fair.running == Counter(interactive=8, batch=1)


def test_a_low_weight_is_no_starvation() -> None:
    fair = FairShare(1)
    come(fair, "a", 1)
    come(fair, "interactive", 1, weight=8.0)
    come(fair, "batch", 1, weight=1.0)
    assert free(fair, "a") == ["interactive"]
    assert free(fair, "interactive") == ["batch"]


def test_one_key_is_served_in_the_order_of_arrival() -> None:
    fair = FairShare(1)
    _, second, third = come(fair, "a", 3)
    fair.end("a")
    assert fair.next() is second
    fair.leave(second)
    assert fair.next() is third


def test_a_full_queue_gives_up_the_newest_of_whoever_has_the_most() -> None:
    fair = FairShare(2)
    *_, newest = come(fair, "a", 6)
    come(fair, "b", 1)
    assert fair.heaviest(Waiter("b", 1.0)) is newest
    arrival = Waiter("a", 1.0)
    assert fair.heaviest(arrival) is arrival


def test_of_equals_the_one_who_comes_goes() -> None:
    fair = FairShare(2)
    come(fair, "a", 3)
    come(fair, "b", 1)
    arrival = Waiter("c", 1.0)
    come(fair, "c", 2)
    assert fair.heaviest(arrival) is arrival


@pytest.mark.parametrize(("own", "others", "ahead"), [(0, 0, 1), (3, 0, 4), (0, 50, 1), (3, 50, 7)])
def test_how_many_go_before(own: int, others: int, ahead: int) -> None:
    fair = FairShare(2)
    come(fair, "a", 2)
    come(fair, "x", others)
    come(fair, "me", own)
    assert fair.ahead("me", 1.0) == ahead


@given(
    places=st.integers(1, 6),
    weights=st.lists(st.sampled_from([1.0, 4.0, 8.0]), min_size=1, max_size=4),
    ends=st.lists(st.integers(0, 100), max_size=60),
)
def test_while_all_wait_nobody_is_more_than_a_place_above_its_share(
    places: int, weights: list[float], ends: list[int]
) -> None:
    """Everybody always has more to do. After enough places were freed each holds its share, but for less than one."""
    fair = FairShare(places)
    for caller, weight in enumerate(weights):
        come(fair, str(caller), places + len(ends) + 10, weight)
    shares = {str(caller): places * weight / sum(weights) for caller, weight in enumerate(weights)}
    for _ in range(places):  # what the first one took alone is given back
        free(fair, max(fair.running, key=lambda caller: fair.running[caller] - shares[caller]))
    for end in ends:
        running = sorted(fair.running.elements())
        free(fair, running[end % len(running)])
        assert fair.running.total() == places
        for name, share in shares.items():
            assert fair.running[name] <= share + 1 + 1e-9
