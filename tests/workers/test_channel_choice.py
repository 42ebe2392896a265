"""Which worker gets a call: affinity within bounded load."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.base import WorkerStats
from workers.channel.choice import AT_ONCE, SLACK, Candidate, choose
from workers.channel.together import together


def test_the_worker_that_has_the_image_on_its_device_comes_first() -> None:
    tiers = [{"a": "disk"}, {"a": "device"}, {"a": "host"}, {}]
    assert choose([Candidate(0, 0, own) for own in tiers], "a") == 1
    assert choose([Candidate(0, 0, own) for own in (tiers[0], tiers[2], tiers[3])], "a") == 1


def test_a_worker_that_is_at_work_for_the_expert_counts_as_having_it() -> None:
    assert choose([Candidate(0), Candidate(1, 1)], "a") == 1


def test_among_equals_the_shortest_queue_wins() -> None:
    assert choose([Candidate(3), Candidate(2), Candidate(4)], "a") == 1


def test_affinity_ends_where_the_load_is_out_of_bounds() -> None:
    busy, idle = Candidate(10, 10, {"a": "device"}), Candidate(0, 0, {"a": "disk"})
    assert choose([busy, idle], "a") == 1


def test_a_troubled_worker_is_the_last_choice_but_a_choice() -> None:
    assert choose([Candidate(0, 0, {"a": "device"}, troubled=True), Candidate(9)], "a") == 1
    assert choose([Candidate(0, 0, {}, troubled=True)], "a") == 0


def test_of_no_workers_there_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose([], "a")


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=200), st.integers(1, 6))
def test_no_worker_gets_more_than_its_bound(experts: str, workers: int) -> None:
    loads = [dict[str, int]() for _ in range(workers)]
    for count, expert in enumerate(experts, 1):
        candidates = [Candidate(sum(own.values()), own.get(expert, 0)) for own in loads]
        chosen = loads[choose(candidates, expert)]
        chosen[expert] = chosen.get(expert, 0) + 1
        assert max(sum(own.values()) for own in loads) <= SLACK * count / workers + 1


def test_a_call_goes_to_a_home_of_its_expert_whoever_else_has_the_image() -> None:
    assert choose([Candidate(0, 0, {"a": "device"}), Candidate(0, 0, {"a": "disk"}, home=True)], "a") == 1
    assert choose([Candidate(1, 1), Candidate(0, home=True), Candidate(0)], "a") == 1


def test_of_two_homes_the_one_that_has_the_image_comes_first_then_the_shortest_queue() -> None:
    assert choose([Candidate(0, home=True), Candidate(2, 0, {"a": "host"}, home=True)], "a") == 1
    assert choose([Candidate(2, 0, {"a": "host"}, home=True), Candidate(1, 0, {"a": "host"}, home=True)], "a") == 1


def test_a_home_takes_a_batch_of_calls_before_others_load_the_image() -> None:
    idle = [Candidate(0)] * 7
    assert choose([Candidate(AT_ONCE - 1, home=True), *idle], "a") == 0
    assert choose([Candidate(AT_ONCE, home=True), *idle], "a") != 0


def test_where_all_homes_are_too_busy_the_images_decide() -> None:
    busy = Candidate(40, 40, {"a": "device"}, home=True)
    assert choose([busy, Candidate(1), Candidate(5, 0, {"a": "host"}), busy], "a") == 2


def test_a_home_in_trouble_is_not_called_while_another_worker_is_well() -> None:
    troubled = Candidate(0, 0, {"a": "device"}, troubled=True, home=True)
    assert choose([troubled, Candidate(3)], "a") == 1
    assert choose([troubled, Candidate(0, troubled=True)], "a") == 0


candidates = st.builds(
    Candidate,
    st.integers(0, 30),
    st.integers(0, 3),
    st.sampled_from([{}, {"a": "device"}, {"a": "host"}, {"a": "disk"}]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(candidates, min_size=1, max_size=8))
def test_a_home_that_is_well_and_not_too_busy_gets_the_call_if_there_is_one(workers: list[Candidate]) -> None:
    chosen = workers[choose(workers, "a")]
    if any(own.home and not own.troubled and own.calls < AT_ONCE for own in workers):
        assert chosen.home
        assert not chosen.troubled


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=200), st.integers(1, 6))
def test_with_homes_no_worker_gets_more_than_its_bound_or_a_batch(experts: str, workers: int) -> None:
    loads = [dict[str, int]() for _ in range(workers)]
    for count, expert in enumerate(experts, 1):
        home = "abcd".index(expert) % workers
        own = [Candidate(sum(x.values()), x.get(expert, 0), home=n == home) for n, x in enumerate(loads)]
        chosen = loads[choose(own, expert)]
        chosen[expert] = chosen.get(expert, 0) + 1
        assert max(sum(x.values()) for x in loads) <= max(AT_ONCE, SLACK * count / workers + 1)


def test_stats_of_one_worker_are_its_own() -> None:
    own = WorkerStats("f", {"a": "device"}, running=3)
    assert together([own]) is own


def test_stats_of_several_workers_are_put_together() -> None:
    one = WorkerStats("f", {"a": "device", "b": "failed: x"}, active="a", running=3, loads={"a": 1}, oldest_wait=2.0)
    two = WorkerStats("f", {"a": "disk", "b": "host"}, running=1, swaps=2, loads={"a": 2, "b": 1}, oldest_wait=5.0)
    both = together([one, two])
    assert both.tiers == {"a": "device", "b": "host"}
    assert (both.active, both.running, both.swaps, both.oldest_wait) == ("a", 4, 2, 5.0)
    assert both.loads == {"a": 3, "b": 1}
