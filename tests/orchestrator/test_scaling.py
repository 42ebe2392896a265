"""What a worker records for those who decide how many there are, and what is known of what they decided."""

import asyncio
import threading
from collections.abc import Mapping

from orchestrator.queue_policy import BUSY, QUEUE, TOKENS
from orchestrator.scaling import TARGETS_S, Recorder, Targets
from workers.base import WorkerStats

IDLE = {"f": WorkerStats("f", {})}


def test_nothing_comes_of_the_first_record() -> None:
    assert Recorder(4).record({}, (0.0, 0), IDLE, 0.0) == {}


def test_the_longest_wait_of_any_expert_counts_for_its_first_word_or_for_its_turn() -> None:
    own = Recorder(4)
    own.record({}, (0.0, 0), IDLE, 0.0)
    turn = {"f": WorkerStats("f", {}, oldest_wait=3.0), "g": WorkerStats("g", {}, oldest_wait=7.0)}
    assert own.record({"a": 5.0, "b": 2.0}, (0.0, 0), IDLE, 2.0)[QUEUE] == 5.0
    assert own.record({"a": 5.0}, (0.0, 0), turn, 4.0)[QUEUE] == 7.0
    assert own.record({}, (0.0, 0), IDLE, 6.0)[QUEUE] == 0.0


def test_calls_and_tokens_are_those_since_the_last_record() -> None:
    own = Recorder(4)
    own.record({}, (10.0, 100), IDLE, 0.0)
    assert own.record({}, (14.0, 160), IDLE, 2.0) == {QUEUE: 0.0, BUSY: 0.5, TOKENS: 30.0}
    assert own.record({}, (14.0, 160), IDLE, 4.0) == {QUEUE: 0.0, BUSY: 0.0, TOKENS: 0.0}
    assert own.record({}, (94.0, 160), IDLE, 6.0)[BUSY] == 1.0  # ten calls for each place
    assert own.record({}, (95.0, 170), IDLE, 6.0) == {}


async def until_known(targets: Targets, app: str, number: int) -> None:
    async with asyncio.timeout(10):
        while targets.of(app) != number:
            await asyncio.sleep(0)


async def test_what_serve_wants_is_asked_for_now_and_then_and_nobody_waits_for_it() -> None:
    now, answers, asked = [100.0], [{"coe-f": 2}, {"coe-f": 3}], threading.Semaphore(0)

    def ask() -> Mapping[str, int]:
        asked.acquire()
        return answers.pop(0)

    targets = Targets(ask, lambda: now[0])
    assert targets.of("coe-f") == 0
    asked.release()
    await until_known(targets, "coe-f", 2)
    now[0] += TARGETS_S - 0.1
    assert (targets.of("coe-f"), targets.of("coe-g")) == (2, 0)
    now[0] += 0.1
    assert targets.of("coe-f") == 2
    asked.release()
    await until_known(targets, "coe-f", 3)
    await targets.close()


async def test_a_serve_that_does_not_say_is_asked_again_and_what_it_said_holds() -> None:
    now, tries = [0.0], 0

    def ask() -> Mapping[str, int]:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise ConnectionError
        return {"coe-f": tries}

    targets = Targets(ask, lambda: now[0])
    await until_known(targets, "coe-f", 1)
    async with asyncio.timeout(10):
        while (known := targets.of("coe-f")) < 3:
            assert known == 1
            now[0] += TARGETS_S
            await asyncio.sleep(0)
    await targets.close()
