"""How many workers are wanted: the decision, and what becomes of it in the hands of a Serve that waits."""

from itertools import pairwise
from types import SimpleNamespace as Of

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.queue_policy import (
    BUSY,
    FITS,
    FORGET,
    QUEUE,
    SILENT_S,
    TOKENS,
    Memory,
    QueuePolicy,
    Rules,
    Told,
    decide,
    read,
)
from tests.orchestrator.scaling_parts import World, linear, with_swaps

RULES = Rules(queue_s=10, busy=0.7, downscale_delay_s=600)


def of(queue_s: float, busy: float, tokens_s: float) -> Told:
    """A worker whose queue time stays."""
    return Told(queue_s, queue_s, busy, tokens_s)


FULL, LATE, IDLE = of(0, 1, 100), of(20, 1, 100), of(0, 0, 0)


def wanted(*told: Told, target: int | None = None, running: int | None = None, memory: Memory | None = None) -> int:
    up = len(told) if running is None else running
    return decide(up if target is None else target, up, told, RULES, memory or Memory(), 0.0)[0]


# More


@pytest.mark.parametrize(("queue_s", "more"), [(0, 0), (10, 0), (11, 1), (20, 1), (500, 1)])
def test_a_worker_that_is_late_is_worth_two_at_most(queue_s: float, more: int) -> None:
    assert wanted(of(queue_s, 1, 100)) == 1 + more


def test_as_many_more_as_are_late_and_by_how_much() -> None:
    assert wanted(LATE, *[FULL] * 9) == 11
    assert wanted(*[LATE] * 10) == 20
    assert wanted(*[of(13, 1, 100)] * 10) == 13


def test_late_are_also_those_whose_time_goes_into_swaps() -> None:
    assert wanted(of(60, 0.1, 1)) == 2


def test_none_more_while_others_idle_or_are_on_their_way() -> None:
    assert wanted(LATE, IDLE) == 2
    assert wanted(LATE, LATE, IDLE) == 4
    assert wanted(LATE, target=2) == 2
    assert wanted(LATE, running=2) == 2  # one has told nothing yet
    assert wanted(LATE, LATE, target=3) == 4


def test_one_that_catches_up_is_not_late() -> None:
    assert wanted(Told(30, 35, 1, 100)) == 1
    assert wanted(Told(30, 34, 1, 100)) == 2
    assert wanted(Told(30, 30, 1, 100)) == 2
    assert wanted(Told(30, 20, 1, 100)) == 2


def test_one_that_is_nearly_late_is_neither_spare_nor_too_few() -> None:
    assert wanted(LATE, of(6, 0.1, 10)) == 3
    assert wanted(of(6, 0.1, 10), of(0, 0, 0)) == 2


# Fewer


def test_one_fewer_where_the_rest_has_room_for_all_calls() -> None:
    assert wanted(of(0, 0.3, 50), of(5, 0.4, 50)) == 1
    assert wanted(of(0, 0.3, 50), of(5, 0.41, 50)) == 2
    assert wanted(*[IDLE] * 9) == 8
    assert wanted(IDLE) == 1


def test_not_fewer_while_anything_is_not_known_or_not_there() -> None:
    assert wanted(IDLE, running=2) == 2
    assert wanted(IDLE, IDLE, target=3) == 3
    assert wanted(IDLE, IDLE, IDLE, target=2) == 2
    assert wanted(target=2, running=2) == 2
    assert wanted(target=2, running=0) == 2


def test_not_fewer_than_were_too_few_for_as_much() -> None:
    """One worker made 40 tokens a second, all else going into swaps; two make more, and have little under way."""
    _, memory = decide(1, 1, [of(30, 1, 40)], RULES, Memory(), 0.0)
    _, memory = decide(2, 1, [of(30, 1, 40)], RULES, memory, 1.0)
    assert memory.too_few == {1: (40, 1.0)}
    at = FITS * 40 / 2
    assert wanted(*[of(0, 0.1, at + 1)] * 2, memory=memory) == 2
    assert wanted(*[of(0, 0.1, at)] * 2, memory=memory) == 1
    later = 1.0 + FORGET * RULES.downscale_delay_s
    assert decide(2, 2, [of(0, 0.1, at + 1)] * 2, RULES, memory, later)[0] == 1


def test_one_that_was_given_back_not_long_ago_is_asked_for_alone() -> None:
    late = [LATE] * 5
    _, memory = decide(6, 6, [IDLE] * 6, RULES, Memory(), 0.0)
    _, memory = decide(5, 6, [IDLE] * 5, RULES, memory, 1.0)  # the sixth goes
    assert wanted(*late) == 10
    assert decide(5, 5, late, RULES, memory, 600.0)[0] == 6
    assert decide(5, 5, late, RULES, memory, 601.0)[0] == 10
    assert decide(4, 4, [LATE] * 4, RULES, Memory(before=(6, 1.0)), 2.0)[0] == 8


def test_when_it_is_back_only_workers_whose_queue_grows_are_late() -> None:
    falls, grows = Told(20, 21, 1, 100), Told(20, 15, 1, 100)
    _, memory = decide(3, 3, [FULL] * 3, RULES, Memory(), 0.0)
    _, memory = decide(2, 2, [LATE] * 2, RULES, memory, 1.0)
    _, memory = decide(3, 2, [LATE] * 2, RULES, memory, 2.0)
    assert decide(3, 2, [grows] * 2, RULES, memory, 3.0)[0] == 3  # it is on its way
    assert decide(3, 3, [falls] * 3, RULES, memory, 3.0)[0] == 3
    assert decide(3, 3, [falls, grows, falls], RULES, memory, 3.0)[0] == 4
    assert decide(3, 3, [falls] * 3, RULES, memory, 602.0)[0] == 6


def test_those_who_make_more_in_time_were_not_too_few() -> None:
    memory = Memory(target=2, too_few={1: (40, 0.0), 2: (50, 0.0)})
    assert {*decide(2, 2, [of(0, 0.5, 26)] * 2, RULES, memory, 1.0)[1].too_few} == {1}
    assert {*decide(2, 2, [of(9, 0.5, 26)] * 2, RULES, memory, 1.0)[1].too_few} == {1, 2}


# In the hands of a Serve that waits

capacities = st.one_of(
    st.floats(20, 200).map(linear),
    st.builds(with_swaps, st.floats(50, 200), st.integers(2, 12), st.integers(1, 6), st.floats(0.1, 0.9)),
)
demands = st.floats(0, 800)
mutes = st.one_of(
    st.just(lambda worker, now: False),
    st.integers(0, 4).map(lambda own: lambda worker, now: worker == own and int(now) % 100 < 40),
)


@settings(max_examples=60, deadline=None)
@given(capacities, demands, mutes, st.integers(1, 3), st.integers(3, 8), st.floats(1, 60))
def test_under_a_constant_load_it_settles_and_stays(capacity, demand, mute, least, most, start_s) -> None:  # type: ignore[no-untyped-def]
    # A load that is just what some workers can do leaves them late, or in time, for as long as one likes to look.
    assume(all(abs(demand - capacity(number)) > 0.05 * capacity(number) for number in range(1, most + 1)))
    seconds = FORGET * RULES.downscale_delay_s
    world = World(lambda now: demand, capacity, mute=mute, least=least, most=most, start_s=start_s, rules=RULES)
    changes = world.run(seconds)
    numbers = [number for _, number in changes]
    assert all(least <= number <= most for number in numbers)
    turns = sum((b > a) != (c > b) for a, b, c in zip(numbers, numbers[1:], numbers[2:], strict=False))
    assert turns <= 2, numbers  # up, once down if that was too many, and once back if those are too few
    is_over = seconds - changes[-1][0] > RULES.downscale_delay_s
    if is_over and demand <= 0.9 * capacity(most) and not any(mute(w, 0.0) for w in range(most)):
        assert demand <= capacity(numbers[-1]), numbers


@settings(max_examples=40, deadline=None)
@given(capacities, st.lists(st.tuples(demands, st.integers(60, 3000)), min_size=1, max_size=8), mutes)
def test_whatever_the_load_does_it_keeps_to_its_bounds_and_waits_between_steps(capacity, phases, mute) -> None:  # type: ignore[no-untyped-def]
    def demand(now: float) -> float:
        for own, lasts in phases:
            if now < lasts:
                return float(own)
            now -= lasts
        return 0.0

    changes = World(demand, capacity, mute=mute, most=6, rules=RULES).run(sum(lasts for _, lasts in phases))
    for (before, a), (after, b) in pairwise(changes):
        assert 1 <= b <= 6
        assert after - before >= (30 if b > a else 600)
        assert a - b <= 1
        assert b <= 2 * a


def test_a_load_that_comes_and_goes_takes_workers_along() -> None:
    world = World(lambda now: 250 if 1000 <= now < 4000 else 20, linear(100), rules=RULES)
    changes = world.run(8000)
    assert [number for _, number in changes] == [1, 2, 4, 3, 2, 1]  # what had waited wants more than three
    assert all(1000 < at < 1200 for at, _ in changes[1:3])
    assert 1600 < changes[3][0] < 4000
    assert all(at >= 4600 for at, _ in changes[4:])


def test_swaps_that_one_more_worker_ends_do_not_bring_it_back_and_forth() -> None:
    """Two workers hold all images, and have a tenth of their slots in use. One makes a third of what it could."""
    world = World(lambda now: 60, with_swaps(100, experts=8, room=4, left=0.33), rules=RULES)
    assert [number for _, number in world.run(FORGET * 600)] == [1, 2]


# What workers told


def points(*values: float, stamp: float = 100.0) -> list[Of]:
    return [Of(timestamp=stamp - (len(values) - n), value=value) for n, value in enumerate(values, 1)]


def test_the_longest_queue_time_of_each_half_and_the_mean_of_the_rest_are_read() -> None:
    series = {QUEUE: {"a": points(1, 9, 2, 3)}, BUSY: {"a": points(0.5, 1.0)}, TOKENS: {"a": points(10, 30)}}
    assert read(series, ["a"], {}, 0.0)[0] == [Told(3, 9, 0.75, 20)]
    series[QUEUE]["a"] = points(4)
    assert read(series, ["a"], {}, 0.0)[0] == [Told(4, 4, 0.75, 20)]


def test_who_is_gone_or_silent_or_tells_half_is_not_there() -> None:
    series = {
        QUEUE: {"gone": points(1), "half": points(1), "none": [], "a": points(1)},
        BUSY: {"gone": points(1), "a": points(1)},
        TOKENS: {"gone": points(1), "a": points(1), "half": points(1)},
    }
    told, heard = read(series, ["half", "none", "new", "a"], {}, 50.0)
    assert (len(told), heard) == (1, {"a": (100.0, 50.0)})
    assert read(series, ["a"], heard, 50.0 + SILENT_S - 0.1)[0]
    assert not read(series, ["a"], heard, 50.0 + SILENT_S)[0]  # whatever the clock of its machine says
    series[QUEUE]["a"] = points(1, stamp=101.0)
    assert read(series, ["a"], heard, 50.0 + SILENT_S)[0]


def test_serve_calls_it_with_a_context_and_keeps_its_state() -> None:
    policy = QueuePolicy(queue_s=5.0, busy=0.5, downscale_delay_s=60.0)
    late = {QUEUE: {"a": points(9)}, BUSY: {"a": points(1)}, TOKENS: {"a": points(7)}}

    def call(number: int, state: object, metrics: object) -> tuple[int, dict[str, object]]:
        return policy(
            Of(
                current_time=1.0, policy_state=state, raw_metrics=metrics, running_replicas=["a"],
                target_num_replicas=number, current_num_replicas=1,
            )
        )  # fmt: skip

    assert call(1, {}, None)[0] == 1
    number, state = call(1, {}, late)
    assert number == 2
    _, state = call(2, {**state, "what": "Serve keeps there itself"}, late)
    assert state["memory"] == Memory(target=2, too_few={1: (7.0, 1.0)})
