"""The channel between gateway and workers: real sockets, a fake engine."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from tests.workers.channel_parts import HOST, bench, call
from workers.base import ChatCall, Delta, Event, Failure, Finish, Usage, WorkerStats
from workers.channel import client as module
from workers.channel.client import Links, NoStats
from workers.channel.frames import MOST_BYTES, Address, Hello, Submit, encode


async def heard(links: Links, own: ChatCall) -> list[Event]:
    return [event async for event in links.generate(own)]


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_a_call_is_answered_as_the_engine_answers() -> None:
    async with bench() as own:
        *deltas, last = await heard(own.links, call())
        assert said(deltas) == "a heard: hello there"
        assert last == Finish("stop", "a", Usage(2, 4))
        assert own.engines[0].calls[0] == call()


async def test_who_does_not_look_on_gets_the_answer_in_one_piece() -> None:
    async with bench() as own:
        assert len(await heard(own.links, call(every=60))) == 2


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
async def test_a_deadline_holds_by_the_clock_of_the_worker_whatever_the_gateway_takes_for_the_time(
    ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    sent = [Submit(1, replace(call(), deadline=now + ahead + left), now + ahead) for left in (60.0, -60.0)]
    assert [own.by_own_clock(now).deadline for own in sent] == [now + 60, now - 60]

    async with bench() as own:  # the same through the wire, of a gateway whose clock is wrong
        monkeypatch.setattr(module, "Submit", lambda number, call: Submit(number, call, time.time() + ahead))
        deltas = await heard(own.links, replace(call(), deadline=time.time() + ahead + 60))
        assert said(deltas) == "a heard: hello there"
        last = (await heard(own.links, replace(call(), deadline=time.time() + ahead - 60)))[-1]
        assert isinstance(last, Failure)
        assert last.code == "deadline"


async def test_a_deadline_is_left_alone_where_both_clocks_agree() -> None:
    own = replace(call(), deadline=time.time() + 60)
    assert Submit(1, own).by_own_clock(time.time()) is own


async def test_many_calls_share_a_connection_and_none_hears_another() -> None:
    async with bench() as own:
        answers = await asyncio.gather(*(heard(own.links, call(n, "ab"[n % 2], f"text {n}")) for n in range(200)))
        assert [said(events) for events in answers] == [f"{'ab'[n % 2]} heard: text {n}" for n in range(200)]
        assert own.engines[0].finished == 200


async def test_a_long_prompt_and_a_long_answer_pass() -> None:
    async with bench() as own:
        text = "x" * 3_000_000
        assert said(await heard(own.links, call(text=text))) == f"a heard: {text}"


async def test_leaving_a_call_aborts_it_in_the_engine() -> None:
    async with bench() as own:
        [engine] = own.engines
        engine.token_delay = 0.01
        async with aclosing(own.links.generate(call(text="many words " * 500))) as events:
            assert isinstance(await anext(events), Delta)
        async with asyncio.timeout(10):
            await engine.reaches(0)
        assert (engine.aborted, engine.finished) == (1, 0)


async def test_a_gateway_that_goes_away_aborts_its_calls() -> None:
    async with bench() as own:
        [engine] = own.engines
        engine.token_delay = 0.01
        task = asyncio.create_task(heard(own.links, call(text="many words " * 500)))
        await engine.reaches(1)
        own.links.up[0].refuse("the cable is cut")
        assert (await task)[-1] == Failure("engine_died", "the worker went down")
        async with asyncio.timeout(10):
            await engine.reaches(0)
        assert engine.aborted == 1
        await own.connected(1)  # it is looked for again
        assert isinstance((await heard(own.links, call()))[-1], Finish)


async def test_with_no_worker_a_call_may_be_submitted_again() -> None:
    async def find() -> list[Address]:
        return []

    async with Links(find) as links:
        [failure] = await heard(links, call())
        assert isinstance(failure, Failure)
        assert failure.code == "engine_starting"
        with pytest.raises(NoStats):
            await links.stats()


class Mute:
    """A worker that takes what is sent to it and says nothing. gone: its caller has left."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Address]:
        server = await asyncio.start_server(self._listen, HOST)
        async with server:
            yield Address("mute", HOST, server.sockets[0].getsockname()[1], "token")
            await self.gone.wait()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()
        await writer.wait_closed()
        self.gone.set()


async def test_a_mute_worker_is_given_up_though_nobody_can_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_S", 0.02), ("TOLD_S", 0.05), ("LOST_S", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    worker = Mute()
    async with asyncio.timeout(10), worker.listening() as address:
        found = [[address]]

        async def find() -> list[Address]:
            return found.pop()  # IndexError from the second time on

        async with Links(find):
            await worker.gone.wait()


async def test_a_mute_worker_gets_no_call_while_another_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_S", 0.02), ("TOLD_S", 0.05), ("SILENT_S", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    async with asyncio.timeout(10), Mute().listening() as address, bench(1) as own:
        own.listed.insert(0, address)
        await own.connected(2)
        [silent] = [link for link in own.links.up if link.address == address]
        assert not silent.candidate("a").troubled
        while not silent.candidate("a").troubled:
            await asyncio.sleep(0.02)
        for number in range(4):
            assert isinstance((await heard(own.links, call(number)))[-1], Finish)


async def test_a_worker_that_leaves_gets_no_further_calls_and_ends_those_it_has() -> None:
    async with bench(2) as own:
        own.engines[0].token_delay = own.engines[1].token_delay = 0.01
        first = asyncio.create_task(heard(own.links, call(text="some words " * 20)))
        await asyncio.sleep(0)
        [leaving] = [n for n in (0, 1) if own.engines[n].calls or await reached(own.engines[n].reaches(1))]
        staying = own.engines[1 - leaving]
        closing = asyncio.create_task(own.servers[leaving].close(60))
        own.listed.pop(leaving)
        async with asyncio.timeout(10):
            while not any(link.leaving for link in own.links.up):  # the word comes over the wire
                await asyncio.sleep(0.01)
        others = await asyncio.gather(*(heard(own.links, call(n)) for n in range(2, 12)))
        assert all(isinstance(events[-1], Finish) for events in (*others, await first))
        assert staying.finished == 10
        await closing


async def test_a_call_that_is_on_its_way_as_a_worker_leaves_is_answered() -> None:
    async with bench() as own:
        [link] = own.links.up
        closing = asyncio.create_task(own.servers[0].close(60))
        await asyncio.sleep(0)  # it has said so, and nobody has heard it
        assert not link.leaving
        assert isinstance((await heard(own.links, call()))[-1], Finish)
        await closing


async def test_a_worker_knows_how_long_whose_calls_wait_for_their_first_word() -> None:
    async with bench() as own:
        [server], [engine] = own.servers, own.engines
        assert server.waits() == {}
        await engine.sleep()  # nothing is said until it wakes
        runs = [asyncio.create_task(heard(own.links, call(n, expert))) for n, expert in enumerate("aab")]
        await engine.reaches(3)
        await asyncio.sleep(0.01)
        waits = server.waits()
        assert waits.keys() == {"a", "b"}
        assert all(seconds > 0 for seconds in waits.values())
        await engine.wake()
        await asyncio.gather(*runs)
        assert server.waits() == {}


async def test_a_worker_counts_how_long_calls_were_under_way_and_the_tokens_that_were_made() -> None:
    async with bench() as own:
        [server], [engine] = own.servers, own.engines
        assert server.worked() == (0.0, 0)
        await engine.sleep()  # nobody ends before it wakes
        runs = [asyncio.create_task(heard(own.links, call(n, text="five words are said here"))) for n in range(2)]
        await engine.reaches(2)
        clock = asyncio.get_running_loop().time
        began, (before, _), after = clock(), server.worked(), clock()
        await asyncio.sleep(0.01)
        ended, (seconds, tokens), over = clock(), server.worked(), clock()
        assert 2 * (ended - after) <= seconds - before <= 2 * (over - began)
        assert tokens == 0
        await engine.wake()
        events = [one for run in runs for one in await run]
        made = sum(event.usage.completion_tokens for event in events if isinstance(event, Finish))
        assert server.worked()[1] == made > 0
        async with asyncio.timeout(10):
            while True:
                idle = server.worked()
                await asyncio.sleep(0.01)
                if server.worked() == idle:  # no call is under way any more
                    break


async def reached(waiting: object) -> bool:
    """Did it happen soon?"""
    try:
        async with asyncio.timeout(0.2):
            await waiting  # type: ignore[misc]
    except TimeoutError:
        return False
    return True


async def test_calls_of_an_expert_stay_together_and_load_is_bounded() -> None:
    async with bench(2) as own:
        for engine in own.engines:
            engine.token_delay = 0.01
        runs = [asyncio.create_task(heard(own.links, call(n, "ab"[n % 2], "some words " * 10))) for n in range(20)]
        await asyncio.gather(*runs)
        asked = [{own_call.expert for own_call in engine.calls} for engine in own.engines]
        assert sorted(map(len, asked)) in ([1, 1], [1, 2], [2, 2])
        assert all(8 <= len(engine.calls) <= 12 for engine in own.engines)


async def test_calls_go_where_their_expert_is_placed_and_elsewhere_where_it_is_not() -> None:
    async with bench(3) as own:
        by_name = {link.address.worker: link for link in own.links.up}
        by_name["w2"].place(["a"])
        by_name["w1"].place(["b"])
        for number, expert in enumerate("abab"):
            await heard(own.links, call(number, expert))
        assert [engine.finished for engine in own.engines] == [0, 2, 2]
        by_name["w2"].place([])
        assert isinstance((await heard(own.links, call()))[-1], Finish)
        assert sum(engine.finished for engine in own.engines) == 5


async def test_where_an_expert_is_placed_every_gateway_learns_from_the_worker() -> None:
    async with bench(2) as own, Links(own.links._find) as others:
        own.links.up[0].place(["b", "a"])
        name = own.links.up[0].address.worker
        await own.links.stats()  # so the worker has read what came before
        async with asyncio.timeout(10):
            while len(others.up) != 2:
                await asyncio.sleep(0.01)
        await others.stats()
        assert {link.address.worker: link.placed for link in others.up}[name] == {"a", "b"}
        assert sum(bool(link.placed) for link in others.up) == 1


async def test_a_worker_tells_how_much_was_asked_of_each_expert_by_all_gateways() -> None:
    async with bench() as own:
        for number in range(3):
            await heard(own.links, call(number, text="one two"))
        own.engines[0].token_delay = 0.01
        async with aclosing(own.links.generate(call(4, "b", text="many words " * 500))) as events:
            await anext(events)
        async with asyncio.timeout(10):
            await own.engines[0].reaches(0)
        await own.links.stats()
        [link] = own.links.up
        assert link.asked["a"] == (3, 3 * 4)
        calls, tokens = link.asked["b"]
        assert calls == 1
        assert tokens < 1000


async def test_a_worker_whose_engine_died_comes_last() -> None:
    async with bench(2) as own:
        for engine in own.engines:
            engine.fail_next("engine_died")
        failed = await heard(own.links, call())
        assert isinstance(failed[-1], Failure)
        [sick] = [n for n in (0, 1) if own.engines[n].calls]
        own.engines[1 - sick].heal()
        assert isinstance((await heard(own.links, call(2)))[-1], Finish)
        assert len(own.engines[sick].calls) == 1


async def test_what_an_engine_raises_is_a_failure_without_its_text() -> None:
    async with bench() as own:

        async def broken(_: ChatCall) -> AsyncGenerator[Event, None]:
            yield Delta("so far")
            raise ValueError("a secret")

        own.engines[0].generate = broken  # type: ignore[method-assign, assignment]
        events = await heard(own.links, call())
        assert events[-1] == Failure("internal", "the worker of a raised ValueError")


async def test_half_a_surrogate_pair_is_replaced() -> None:
    async with bench() as own:
        own.engines[0].answer = lambda _: "odd \ud83d end"
        assert said(await heard(own.links, call())) == "odd \ufffd end"


async def test_what_no_frame_can_say_is_raised_and_the_connection_goes_on() -> None:
    async with bench() as own:
        odd = ChatCall("r", "a", ({"role": "user", "content": 2**70},))
        with pytest.raises(OverflowError):
            await heard(own.links, odd)
        assert isinstance((await heard(own.links, call()))[-1], Finish)


async def test_stats_come_from_every_worker() -> None:
    async with bench(2) as own:
        await heard(own.links, call())
        told = await own.links.stats()
        assert sorted(stats["f"].active or "" for stats in told) == ["", "a"]


async def test_a_worker_that_does_not_say_how_it_is_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATS_S", 0.2)
    async with bench(2) as own:
        never = asyncio.Event()

        async def stuck() -> Mapping[str, WorkerStats]:
            await never.wait()
            raise AssertionError

        own.served[0].stats = stuck  # type: ignore[method-assign]
        assert len(await own.links.stats()) == 1
        own.served[1].stats = stuck  # type: ignore[method-assign]
        with pytest.raises(NoStats, match=r"none has told how it is within 0\.2 s"):
            await own.links.stats()
        never.set()


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "first",
    [
        framed(encode(Hello("guess"))),
        framed(encode(Hello("guess", version=99))),
        framed(encode(Submit(1, call()))),
        framed(b"\x80\x04\x95nonsense"),
        framed(b""),
        (MOST_BYTES + 1).to_bytes(4, "little"),
        (2000).to_bytes(4, "little") + b"x" * 2000,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_a_stranger_is_cut_off_and_starts_nothing(first: bytes) -> None:
    async with bench() as own:
        reader, writer = await asyncio.open_connection(HOST, own.listed[0].port)
        writer.write(first + framed(encode(Submit(1, call()))))
        assert await read_all(reader) == b""
        writer.close()
        assert own.engines[0].started == 0
        assert isinstance((await heard(own.links, call()))[-1], Finish)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_friend_that_talks_nonsense_is_cut_off() -> None:
    async with bench() as own:
        reader, writer = await asyncio.open_connection(HOST, own.listed[0].port)
        hello = framed(encode(Hello(own.listed[0].token)))
        writer.write(hello + framed(encode(Submit(1, call()))) + framed(encode(Submit(1, call()))))
        await read_all(reader)
        writer.close()
        async with asyncio.timeout(10):
            await own.engines[0].reaches(0)


async def test_a_token_stands_in_no_text() -> None:
    async with bench() as own:
        assert own.listed[0].token not in f"{own.listed[0]!r} {own.listed[0]}"
