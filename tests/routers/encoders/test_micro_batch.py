"""Concurrent calls share passes. A gate holds a pass until all who should wait do; no clock is looked at."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from routers.encoders.micro_batch import MicroBatcher, Rows

LIMIT = 4


def rows_of(texts: Sequence[str]) -> Rows:
    return np.array([[len(text), ord(text[0])] for text in texts], np.float32)


class Passes:
    """The function that is batched: records what each pass was given, and holds the first one at a gate."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.bad: str | None = None

    def __call__(self, texts: Sequence[str]) -> Rows:
        self.seen.append(list(texts))
        if len(self.seen) == 1:
            self.begun.set()
            assert self.gate.wait(20)
        if self.bad in texts:
            raise ValueError(f"bad text {self.bad}")
        return rows_of(texts)


Start = Callable[..., "Future[list[Rows]]"]


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def batcher(passes: Passes) -> MicroBatcher:
    return MicroBatcher(passes, LIMIT)


@pytest.fixture
def start(passes: Passes, batcher: MicroBatcher) -> Iterator[Start]:
    """Calls the batcher in a thread of its own; returns once the call is in a pass or waits for one."""
    with ThreadPoolExecutor(16) as pool:

        def call(*texts: str) -> "Future[list[Rows]]":
            before, joins = batcher.waiting, passes.begun.is_set()
            future = pool.submit(batcher, texts)
            if joins:
                wait_until(lambda: batcher.waiting > before)
            else:
                assert passes.begun.wait(20)
            return future

        yield call
        passes.gate.set()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_call_alone_is_one_pass(passes: Passes, batcher: MicroBatcher) -> None:
    passes.gate.set()
    np.testing.assert_array_equal(batcher(["a", "bb"]), rows_of(["a", "bb"]))
    assert passes.seen == [["a", "bb"]]
    assert batcher([]) == []
    assert len(passes.seen) == 1


def test_who_comes_during_a_pass_shares_the_next(passes: Passes, start: Start) -> None:
    first = start("a")
    others = [start(text) for text in ("b", "cc", "d")]
    passes.gate.set()
    for future, text in zip([first, *others], ["a", "b", "cc", "d"], strict=True):
        np.testing.assert_array_equal(future.result(20), rows_of([text]))
    assert passes.seen == [["a"], ["b", "cc", "d"]]


def test_a_text_of_two_calls_is_computed_once(passes: Passes, start: Start) -> None:
    calls = [start("a"), start("b"), start("b")]
    passes.gate.set()
    assert [float(future.result(20)[0][1]) for future in calls] == [97, 98, 98]
    assert passes.seen == [["a"], ["b"]]


def test_a_pass_has_a_limit(passes: Passes, start: Start) -> None:
    calls = [start(text) for text in "abcdefg"]
    passes.gate.set()
    for future, text in zip(calls, "abcdefg", strict=True):
        np.testing.assert_array_equal(future.result(20), rows_of([text]))
    assert passes.seen == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


def test_a_short_call_does_not_wait_for_a_long_one(passes: Passes, start: Start) -> None:
    held, long, short = start("a"), start(*"bcdefghij"), start("z")
    passes.gate.set()
    np.testing.assert_array_equal(short.result(20), rows_of(["z"]))
    np.testing.assert_array_equal(long.result(20), rows_of(list("bcdefghij")))
    held.result(20)
    assert "z" in passes.seen[1]
    assert all(len(texts) <= LIMIT for texts in passes.seen)


def test_an_error_is_its_callers_own(passes: Passes, batcher: MicroBatcher, start: Start) -> None:
    passes.bad = "bad"
    held, good, bad = start("a"), start("b"), start("c", "bad")
    passes.gate.set()
    with pytest.raises(ValueError, match="bad text bad"):
        bad.result(20)
    np.testing.assert_array_equal(good.result(20), rows_of(["b"]))
    held.result(20)
    assert batcher.waiting == 0
    np.testing.assert_array_equal(batcher(["d"]), rows_of(["d"]))


def test_an_interrupt_leaves_nobody_waiting(batcher: MicroBatcher, passes: Passes) -> None:
    def interrupted(texts: Sequence[str]) -> Rows:
        raise KeyboardInterrupt

    batcher._forward = interrupted
    passes.gate.set()
    with pytest.raises(KeyboardInterrupt):
        batcher(["a"])
    batcher._forward = passes
    np.testing.assert_array_equal(batcher(["b"]), rows_of(["b"]))


def test_rows_that_are_too_few_are_an_error(batcher: MicroBatcher) -> None:
    batcher._forward = lambda texts: np.zeros((len(texts) - 1, 2), np.float32)
    with pytest.raises(ValueError, match="shorter"):
        batcher(["a", "b"])


def test_many_threads_at_once(batcher: MicroBatcher, passes: Passes) -> None:
    passes.gate.set()
    texts = [chr(97 + i % 26) * (i + 1) for i in range(200)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: batcher([text])[0], texts))
    np.testing.assert_array_equal(found, rows_of(texts))
    assert sum(map(len, passes.seen)) == len(texts)
