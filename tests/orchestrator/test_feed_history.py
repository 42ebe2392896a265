"""Who comes back to the feed gets what it missed, or is told that there is a gap."""

import pytest

from orchestrator.feed import Feed, History
from tests.orchestrator.feed_parts import Workers, kinds, log_of, reading, stats, swap
from workers.base import SwapEvent

SLEPT = SwapEvent(7, 2000.0, "slept", "small", "device", "host", 0, 1.0)

# Coming back


async def test_who_comes_back_gets_what_he_missed_also_what_nobody_has_seen() -> None:
    workers, history = Workers(), History()
    with reading(Feed(workers, history=history, look_s=0.001)) as reader:
        await reader.take(5)
        workers.told = stats(swap(1))
        [told, _] = await reader.take(5)
        assert told.number is not None
    workers.told = stats(swap(1), swap(2, "math"), active="math")
    later = Feed(workers, history=history, look_s=0.001)  # as of another configuration
    with reading(later, last=history.id(told.number)) as again:
        assert await kinds(again) == [("swap", "math"), ("engine", "math")]
        with reading(later, last=history.id(told.number)) as third:
            assert (await kinds(third))[0] == ("swap", "math")


async def test_who_leaves_again_before_he_has_what_he_missed_misses_nothing() -> None:
    history = History()
    history.learn(stats())
    history.learn(stats(swap(1), swap(2, "math")))
    feed = Feed(Workers(), history=history, look_s=0.001)
    with reading(feed, last=history.id(0)) as reader:
        pass
    with reading(feed, last=history.id(reader.after)) as again:
        assert [told.number for told in await again.take(5) if told.kind == "swap"] == [1, 2]
    with reading(feed) as new:
        assert new.after == 2


def test_a_worker_that_missed_a_look_is_no_news_when_it_is_back() -> None:
    history = History()
    history.learn(stats(swap(1), swap(2, "math")))
    history.learn(stats(swap(2, "math")))
    learned = history.learn(stats(swap(1), swap(2, "math"), swap(3)))
    assert [one.event for one in learned.swaps] == [swap(3)]


def test_history_forgets_the_oldest_and_says_so() -> None:
    history = History()
    history.learn(stats())
    events = [swap(number) for number in range(3000)]
    history.learn(stats(*events))
    missed, whole = history.since(2999)
    assert ([one.number for one in missed], whole) == ([3000], True)
    missed, whole = history.since(1)
    assert (len(missed), whole) == (2048, False)


# Gaps


@pytest.mark.parametrize("last", ["other.1", "", "nonsense", "{epoch}.99", "{epoch}." + "9" * 5000])
async def test_an_id_that_says_nothing_is_a_gap(last: str) -> None:
    history = History()
    with reading(Feed(Workers(), history=history, look_s=0.001), last=last.format(epoch=history.epoch)) as reader:
        assert ("lost", None) in await kinds(reader)


@pytest.mark.parametrize(
    ("known", "now", "gap"),
    [
        (log_of(1, 512), log_of(500, 1011), False),
        (log_of(1, 512), log_of(513, 1024), False),
        (log_of(1, 512), log_of(514, 1025), True),
        (log_of(1, 512, SLEPT), log_of(514, 1025, SLEPT), True),  # a move says nothing of the engine's log
        ((), log_of(1, 512), False),
        ((), log_of(2, 513), True),
        (log_of(5, 9), log_of(1, 3), True),  # an engine begins anew: nobody saw the end of the former log
        (log_of(5, 9), (), True),
        (log_of(5, 9, SLEPT), log_of(1, 3, SLEPT), False),  # of one that slept everybody did
        (log_of(5, 9, SLEPT), log_of(5, 10, SLEPT), False),
    ],
)
def test_a_log_that_shares_nothing_with_what_was_known_of_it_is_a_gap(
    known: tuple[SwapEvent, ...], now: tuple[SwapEvent, ...], gap: bool
) -> None:
    history = History()
    assert not history.learn(stats(*known)).gap
    assert history.learn(stats(*now)).gap == gap


def test_who_comes_back_over_a_gap_has_not_all_and_who_came_behind_it_has() -> None:
    history = History()
    history.learn(stats(*log_of(1, 3)))
    history.learn(stats(*log_of(1, 4)))
    before = history.number
    history.learn(stats(*log_of(10, 12)))
    assert [history.since(number)[1] for number in range(before - 1, history.number + 1)] == [False] * 2 + [True] * 4
    assert [one.event.number for one in history.since(before)[0]] == [10, 11, 12]


async def test_more_swaps_than_a_log_keeps_between_two_looks_are_a_gap_to_who_looks_on() -> None:
    workers = Workers(*log_of(1, 3))
    with reading(Feed(workers, look_s=0.001)) as reader:
        await kinds(reader)
        workers.told = stats(*log_of(10, 11))
        assert (await kinds(reader))[:3] == [("lost", None), ("swap", "sql"), ("swap", "sql")]


async def test_what_nobody_looked_at_is_a_gap_to_who_comes_back_and_to_nobody_else() -> None:
    workers = Workers(*log_of(1, 3))
    feed = Feed(workers, look_s=0.001)
    with reading(feed) as reader:
        await kinds(reader)
    workers.told = stats(*log_of(10, 11))
    with reading(feed, last=feed.history.id(reader.after)) as back, reading(feed, "b") as new:
        assert ("lost", None) in await kinds(back)
        assert all(kind != "lost" for kind, _ in await kinds(new))


async def test_who_leaves_again_before_he_is_told_of_a_gap_is_told_when_he_comes_back() -> None:
    history = History()
    history.learn(stats(*log_of(1, 3)))
    history.learn(stats(*log_of(10, 11)))
    feed = Feed(Workers(), history=history)
    with reading(feed, last=history.id(0)) as reader:
        pass
    with reading(feed, last=history.id(reader.after)) as again:
        assert (await kinds(again))[0] == ("lost", None)
