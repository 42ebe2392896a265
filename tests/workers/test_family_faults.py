"""Families on one device whose engines fail."""

import pytest

from tests.workers.family_bench import MAX_WAIT_S, Bench, Engine, answer
from workers.base import ChatCall, Delta, Failure


async def test_what_was_under_way_in_an_engine_that_does_not_wake_ends(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    bench.clock.now += MAX_WAIT_S / 2
    later = await bench.wait("a-2")
    bench.clock.now += MAX_WAIT_S / 2
    bench.engines["a"][0].fail_next_start("out of memory")
    assert await b == answer("b")
    assert await a == [Delta("a1"), Failure("engine_died", "the engine of a1 went down")]
    assert await later == [Failure("expert_unavailable", "the engine of a1 does not start: out of memory")]
    assert (bench.engines["a"][0].aborted, bench.engines["a"][0].left) == (1, 0)


async def test_a_request_that_breaks_its_engine_s_code_ends_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    assert await bench.ask("a") == answer("a")

    def broken(call: ChatCall) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.engines["a"][0], "answer", broken)
    assert await bench.ask("a") == [Failure("internal", "the engine of a1 gave no end of the answer")]
    assert await bench.ask("b") == answer("b")


async def test_when_an_engine_dies_its_requests_end_and_those_that_wait_go_on(bench: Bench) -> None:
    bench.launch()
    a = await bench.hold("a-1")
    b = await bench.wait("b")
    bench.engines["a"][0].die()
    bench.release("a")
    *_, last = await a
    assert isinstance(last, Failure)
    assert last.code == "engine_died"
    assert await b == answer("b")
    assert await bench.ask("a-2") == answer("a-2")
    assert [line for line in bench.log if line[0] not in "<>"] == [
        "start a", "close a", "start b", "sleep b", "start a",
    ]  # fmt: skip
    assert len(bench.engines["a"]) == 2
    assert (await bench.device.stats())["a"].restarts == 1


async def test_the_others_go_on_after_an_engine_that_does_not_end_as_it_should(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Engine) -> None:
        raise OSError("no such process")

    bench.launch()
    assert await bench.ask("a") == answer("a")
    monkeypatch.setattr(bench.engines["a"][0], "close", broken.__get__(bench.engines["a"][0]))
    bench.engines["a"][0].die()
    assert await bench.ask("b") == answer("b")
    assert await bench.ask("a") == answer("a")
    bench.device.check_health()


async def test_an_engine_that_dies_while_nobody_asks_is_started_anew(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["b"][0].die()
    await bench.until(lambda: bench.log[-1] == "start b" and len(bench.engines["b"]) == 2)
    assert bench.log.count("close b") == 1
    assert bench.log.count("start a") == 1


async def test_an_engine_that_dies_asleep_is_started_when_it_is_asked(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["a"][0].die()
    await bench.logged("close a")
    assert await bench.tiers() == {"a1": "disk", "b1": "device", "c1": "disk"}
    assert await bench.ask("a") == answer("a")
    assert bench.log[-4:] == ["sleep b", "start a", "< a", "> a"]


async def test_a_family_that_does_not_start_fails_alone_and_is_tried_again_later(bench: Bench) -> None:
    bench.broken["b"] = 1
    bench.launch()
    refused = Failure("expert_unavailable", "the engine of b1 does not start: no weights of b")
    early = [bench.ask("b-1"), bench.ask("b-2")]
    assert [await task for task in early] == [[refused], [refused]]
    assert await bench.ask("b-3") == [refused]
    assert bench.log.count("start b") == 1
    assert await bench.ask("a") == answer("a")
    assert await bench.tiers() == {"a1": "device", "b1": "failed: no weights of b", "c1": "disk"}
    bench.device.check_health()
    bench.clock.now += 50
    assert await bench.ask("b-4") == answer("b-4")
    assert await bench.tiers() == {"a1": "host", "b1": "device", "c1": "disk"}


async def test_a_family_that_does_not_wake_is_started_anew_later(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    bench.engines["a"][0].fail_next_start("out of memory")
    assert await bench.ask("a-1") == [Failure("expert_unavailable", "the engine of a1 does not start: out of memory")]
    bench.clock.now += 50
    assert await bench.ask("a-2") == answer("a-2")
    assert len(bench.engines["a"]) == 2


async def test_if_the_first_family_does_not_start_the_next_one_is_awake(bench: Bench) -> None:
    bench.broken["a"] = 1
    bench.launch()
    await bench.logged("start b")
    await bench.until(lambda: len(bench.log) == 3)
    assert bench.log == ["start a", "close a", "start b"]


async def test_a_family_larger_than_the_device_fails_alone(bench: Bench) -> None:
    bench.launch(memory=2 << 30, sizes=(3 << 30, 2 << 30, 1 << 30))
    [failure] = await bench.ask("a")
    assert failure == Failure(
        "expert_unavailable",
        "the engine of a1 does not start: it takes 3.00 GiB, the device has 2.00; lower families.a.memory_gib, "
        "or raise the device's",
    )
    assert await bench.ask("b") == answer("b")
    assert "start a" not in bench.log
    bench.device.check_health()


async def test_a_device_with_no_family_that_fits_reports_itself_unhealthy(bench: Bench) -> None:
    bench.launch(memory=1 << 30, families="a", sizes=(2 << 30,))
    with pytest.raises(RuntimeError, match=r"it takes 2\.00 GiB, the device has 1\.00"):
        bench.device.check_health()


async def test_a_device_on_which_nothing_starts_reports_itself_unhealthy(bench: Bench) -> None:
    bench.broken = {"a": 9, "b": 9}
    bench.launch(families="ab")
    for _ in range(2):
        started = len(bench.log)
        await bench.until(lambda: len(bench.log) == started + 4)  # noqa: B023
        bench.clock.now += 50
    with pytest.raises(RuntimeError, match="no engine on device gpu0 starts: a: no weights of a; b: no weights of b"):
        bench.device.check_health()


async def test_closing_ends_every_engine_and_every_call(bench: Bench) -> None:
    bench.launch()
    assert await bench.ask("b") == answer("b")
    b = await bench.hold("b-1")
    c = await bench.wait("c")
    await bench.device.close()
    assert await b == [Delta("b1"), Failure("engine_died", "the engine of b1 went down")]
    assert await c == [Failure("engine_starting", "the engine of c1 is being ended")]
    assert (bench.log.count("close a"), bench.log.count("close b"), "c" in bench.engines) == (1, 1, False)
    assert bench.engines["b"][0].left == 0
    assert await bench.ask("b-2") == [Failure("engine_starting", "the engine of b1 is starting; try again shortly")]
