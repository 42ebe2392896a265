"""Calls to families that take turns: counted, given up, refused, or late."""

import asyncio
import time
from contextlib import aclosing

from tests.workers.family_bench import MAX_WAIT_S, Bench, answer
from workers.base import ChatCall, Failure


async def test_calls_that_wait_are_counted(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    b = [await bench.wait("b-1"), await bench.wait("b-2")]
    bench.clock.now += 7
    stats = await bench.device.stats()
    assert (stats["a"].running, stats["a"].waiting, stats["a"].queued_by_expert) == (1, 0, {"a1": 1})
    assert (stats["b"].running, stats["b"].waiting, stats["b"].queued_by_expert) == (0, 2, {"b1": 2})
    assert (stats["b"].oldest_wait, stats["c"].oldest_wait) == (7, 0)
    bench.release("a")
    await asyncio.gather(a, *b)
    assert (await bench.device.stats())["b"].queued_by_expert == {}


async def test_nobody_is_woken_for_a_call_that_has_gone(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    b.cancel()
    await asyncio.wait([b])
    bench.clock.now += MAX_WAIT_S
    bench.release("a")
    assert (await a, await bench.ask("a-2")) == (answer("a-1"), answer("a-2"))
    assert bench.log == ["start a", "< a-1", "> a-1", "< a-2", "> a-2"]
    assert (await bench.device.stats())["b"].queued_by_expert == {}


async def test_a_call_that_is_given_up_is_aborted_in_its_engine(bench: Bench) -> None:
    bench.launch()
    call = ChatCall("r", "a1", ({"role": "user", "content": "a"},))
    await bench.logged("start a")
    bench.engines["a"][0].go.clear()
    async with aclosing(bench.device.generate(call)) as events:
        await anext(events)
    assert (bench.engines["a"][0].running, bench.engines["a"][0].aborted) == (0, 1)


async def test_a_deadline_ends_the_wait(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a")
    [failure] = await bench.ask("b", deadline=time.time() + 0.05)
    assert isinstance(failure, Failure)
    assert failure.code == "deadline"
    bench.release("a")
    assert await a == answer("a")
    assert "b" not in bench.engines


async def test_an_expert_of_no_family_is_refused(bench: Bench) -> None:
    bench.launch()
    [failure] = await bench.ask("d")
    assert failure == Failure("expert_unavailable", "no family on device gpu0 has the expert d1")


async def test_a_caller_that_is_slow_to_read_does_not_keep_its_family_awake(bench: Bench) -> None:
    bench.launch()
    call = ChatCall("slow", "a1", ({"role": "user", "content": "a"},))
    async with aclosing(bench.device.generate(call)) as events:
        read = [await anext(events)]
        assert await bench.ask("b") == answer("b")
        read += [event async for event in events]
    assert read == answer("a")
    assert bench.log == ["start a", "< a", "> a", "sleep a", "start b", "< b", "> b"]
