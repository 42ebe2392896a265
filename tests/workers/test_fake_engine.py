"""The fake must keep the promises of workers.base.Engine, or the tests that stand on it prove nothing."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import psutil
import pytest
import pytest_asyncio

from experts.spec import ExpertSpec
from workers.base import ChatCall, Delta, Engine, Event, Failure, FailureCode, Finish, Sampling, Usage
from workers.fake_engine import FakeEngine

EXPERTS = [
    ExpertSpec(name="a", source="a", family="f", context_length=20),
    ExpertSpec(name="b", source="b", family="f"),
]


def call(text: str = "one two", expert: str = "a", deadline: float = float("inf"), **sampling: Any) -> ChatCall:
    return ChatCall("req-1", expert, ({"role": "user", "content": text},), Sampling(**sampling), deadline)


async def events(engine: Engine, chat: ChatCall) -> list[Event]:
    return [event async for event in engine.generate(chat)]


def text(made: list[Event]) -> str:
    return "".join(event.text for event in made if isinstance(event, Delta))


@pytest_asyncio.fixture
async def engine() -> FakeEngine:
    engine = FakeEngine("f", EXPERTS)
    await engine.start()
    return engine


async def test_an_answer_is_words_and_then_a_stamped_finish(engine: FakeEngine) -> None:
    made = await events(engine, call())
    assert made == [
        Delta("a"), Delta(" heard:"), Delta(" one"), Delta(" two"), Finish("stop", "a", Usage(2, 4)),
    ]  # fmt: skip
    assert (engine.started, engine.finished, engine.running, engine.aborted) == (1, 1, 0, 0)


async def test_max_tokens_and_context_cut_the_answer(engine: FakeEngine) -> None:
    made = await events(engine, call(max_tokens=2))
    assert (text(made), made[-1]) == ("a heard:", Finish("length", "a", Usage(2, 2)))
    made = await events(engine, call("w " * 15))
    assert made[-1] == Finish("length", "a", Usage(15, 5))


async def test_an_expert_with_other_weights_has_another_image_and_the_former_goes_with_its_last_call() -> None:
    engine = FakeEngine("f", EXPERTS, images=2)
    await engine.start()
    await engine.sleep()
    under_way = asyncio.create_task(events(engine, call(expert="b")))
    await engine.reaches(1)
    await engine.adopt([EXPERTS[0], EXPERTS[1].model_copy(update={"source": "better"})])
    assert (await engine.stats()).tiers == {"a": "device", "b": "disk"}
    assert ("b", "b") in engine._device
    await engine.wake()
    assert text(await under_way) == "b heard: one two"
    assert list(engine._device) == [("a", "a")]
    assert isinstance((await events(engine, call(expert="b")))[-1], Finish)
    assert (await engine.stats()).tiers == {"a": "device", "b": "device"}


async def test_slots_are_answered_at_a_time_and_others_wait() -> None:
    engine = FakeEngine("f", EXPERTS, slots=2)
    await engine.start()
    await engine.sleep()
    asked = [asyncio.create_task(events(engine, call(f"number {number}"))) for number in range(5)]
    await engine.reaches(running=5)
    asked.pop().cancel()
    await engine.reaches(running=4)
    await engine.wake()
    assert {len(made) for made in await asyncio.gather(*asked)} == {5}
    assert (engine.finished, engine.aborted) == (4, 1)


async def test_an_answer_ends_before_a_stop_string(engine: FakeEngine) -> None:
    made = await events(engine, call("one two three", stop=("two", "three")))
    assert text(made) == "a heard: one "
    assert isinstance(made[-1], Finish)
    assert made[-1].reason == "stop"


@pytest.mark.parametrize("chat", [call("w " * 20), call("w " * 10, max_tokens=11)])
async def test_what_does_not_fit_the_context_is_refused(engine: FakeEngine, chat: ChatCall) -> None:
    [failure] = await events(engine, chat)
    assert isinstance(failure, Failure)
    assert failure.code == "prompt_too_long"
    assert engine.started == 0


async def test_a_deadline_ends_the_answer(engine: FakeEngine) -> None:
    made = await events(engine, call(deadline=time.time() - 1))
    assert made == [Failure("deadline", "the deadline passed while the answer was generated")]


async def test_closing_the_generator_is_an_abort(engine: FakeEngine) -> None:
    async with aclosing(engine.generate(call())) as made:
        assert await anext(made) == Delta("a")
        assert engine.running == 1
    assert (engine.running, engine.aborted, engine.finished) == (0, 1, 0)


async def test_cancelling_the_consumer_is_an_abort(engine: FakeEngine) -> None:
    engine.token_delay = 60
    task = asyncio.create_task(events(engine, call()))
    await engine.reaches(running=1)
    task.cancel()
    await asyncio.wait([task])
    assert (engine.running, engine.aborted) == (0, 1)


@pytest.mark.parametrize("code", ["internal", "engine_starting", "expert_unavailable"])
async def test_scripted_failures_come_in_order_and_then_it_works(engine: FakeEngine, code: FailureCode) -> None:
    engine.fail_next(code, "first", times=2)
    engine.fail_next("engine_died", "later", after=2)
    assert await events(engine, call()) == await events(engine, call()) == [Failure(code, "first")]
    assert await events(engine, call()) == [Delta("a"), Delta(" heard:"), Failure("engine_died", "later")]
    assert isinstance((await events(engine, call()))[-1], Finish)
    assert (engine.failed, engine.finished, engine.aborted) == (3, 1, 0)


async def test_a_healed_engine_works(engine: FakeEngine) -> None:
    engine.fail_next("internal", times=1000)
    await events(engine, call())
    engine.heal()
    assert isinstance((await events(engine, call()))[-1], Finish)


async def test_a_false_stamp_is_given_once(engine: FakeEngine) -> None:
    engine.stamp_next("b")
    assert (await events(engine, call()))[-1] == Finish("stop", "b", Usage(2, 4))
    assert (await events(engine, call()))[-1] == Finish("stop", "a", Usage(2, 4))


async def test_an_engine_that_dies_takes_all_requests_with_it_until_it_is_started_again(engine: FakeEngine) -> None:
    engine.die_after(4)
    made = await asyncio.gather(events(engine, call()), events(engine, call(expert="b")))
    assert sum(isinstance(event, Delta) for one in made for event in one) == 4
    for one in made:
        assert isinstance(one[-1], Failure)
        assert one[-1].code == "engine_died"
    assert not engine.is_alive()
    [refused] = await events(engine, call())
    assert isinstance(refused, Failure)
    assert refused.code == "engine_starting"
    await engine.start()
    assert engine.is_alive()
    assert isinstance((await events(engine, call()))[-1], Finish)
    assert (await engine.stats()).restarts == 1


async def test_an_expert_that_cannot_be_loaded_leaves_the_others(engine: FakeEngine) -> None:
    engine.fail_start("a", "no weights at /models/a")
    [refused] = await events(engine, call())
    assert refused == Failure("expert_unavailable", "expert 'a': no weights at /models/a")
    assert isinstance((await events(engine, call(expert="b")))[-1], Finish)
    assert (await engine.stats()).tiers == {"a": "failed: no weights at /models/a", "b": "device"}


async def test_an_unknown_expert_is_refused(engine: FakeEngine) -> None:
    [refused] = await events(engine, call(expert="c"))
    assert isinstance(refused, Failure)
    assert refused.code == "expert_unavailable"


async def test_stats_tell_what_runs_and_how_often_the_expert_changed(engine: FakeEngine) -> None:
    for expert in "aabba":
        await events(engine, call(expert=expert))
    async with aclosing(engine.generate(call(expert="b"))) as made:
        await anext(made)
        stats = await engine.stats()
    assert (stats.active, stats.running, stats.swaps) == ("b", 1, 3)


async def test_a_sleep_holds_what_is_under_way_until_the_engine_wakes(engine: FakeEngine) -> None:
    async with aclosing(engine.generate(call())) as made:
        first = await anext(made)
        assert await engine.sleep() == "host"
        rest = asyncio.create_task(anext(made))
        await asyncio.sleep(0.01)
        assert not rest.done()
        await engine.wake()
        assert text([first, await rest, *[event async for event in made]]) == "a heard: one two"


async def test_an_engine_that_keeps_no_requests_is_closed_while_it_sleeps() -> None:
    engine = FakeEngine("f", EXPERTS, keeps_requests=False)
    await engine.start()
    async with aclosing(engine.generate(call())) as made:
        await anext(made)
        with pytest.raises(AssertionError, match="does not keep"):
            await engine.sleep()
    assert await engine.sleep() == "disk"
    assert isinstance((await events(engine, call()))[0], Failure)
    await engine.wake()
    assert isinstance((await events(engine, call()))[-1], Finish)


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_start_that_is_to_fail_fails_once(keeps: bool) -> None:
    engine = FakeEngine("f", EXPERTS, keeps_requests=keeps)
    for begin in (engine.start, engine.wake):
        engine.fail_next_start("no memory")
        with pytest.raises(RuntimeError, match="no memory"):
            await begin()
        await begin()
        assert isinstance((await events(engine, call()))[-1], Finish)
        await engine.sleep()


async def test_before_start_and_after_close_nothing_is_served() -> None:
    engine = FakeEngine("f", EXPERTS)
    assert isinstance((await events(engine, call()))[0], Failure)
    await engine.start()
    await engine.close()
    assert isinstance((await events(engine, call()))[0], Failure)


async def test_an_engine_with_a_process_goes_down_with_it_and_comes_up_with_another() -> None:
    before = set(psutil.Process().children())
    engine = FakeEngine("f", EXPERTS, token_delay=0.01, process=True)
    await engine.start()
    asked = asyncio.create_task(events(engine, call("many words " * 500, expert="b")))
    await engine.reaches(running=1)
    [child] = set(psutil.Process().children()) - before
    child.kill()
    last = (await asked)[-1]
    assert isinstance(last, Failure)
    assert last.code == "engine_died"
    assert not engine.is_alive()

    await engine.start()
    assert engine.is_alive()
    assert isinstance((await events(engine, call()))[-1], Finish)
    [other] = set(psutil.Process().children()) - before
    assert other.pid != child.pid
    await engine.close()
    assert set(psutil.Process().children()) <= before
