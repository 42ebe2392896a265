"""Experts come, go and change while a worker runs: what calls meet then."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from experts.spec import ExpertSpec, Sampling
from tests.workers.family_bench import Bench, roster
from tests.workers.shelf import OWN, SHARED, Gate, happened, loaded, shelves, weights
from workers.base import ChatCall, Delta, Event, Failure, Finish, Roster
from workers.fake_engine import FakeEngine
from workers.image_files import ImageFiles
from workers.members import AdapterRoom, adapter_room
from workers.remote import RemoteEngine
from workers.steps import expert_of, image_name
from workers.swap_policy import SwapPolicy, SwapSettings
from workers.worker import Worker

LONG = " ".join(["word"] * 30)


def spec(name: str, source: str = "x", tokens: int = 100) -> ExpertSpec:
    """tokens: how long its answers are at most, by which its versions can be told apart."""
    return ExpertSpec(name=name, source=source, family="f", sampling=Sampling(max_tokens=tokens))


def call(expert: str, number: object = 0) -> ChatCall:
    return ChatCall(f"{expert}/{number}", expert, ({"role": "user", "content": LONG},))


async def events(stream: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(stream) as opened:
        return [event async for event in opened]


def length(made: Sequence[Event]) -> int:
    """Of a whole answer."""
    assert isinstance(made[-1], Finish), made[-1]
    return made[-1].usage.completion_tokens


class Failing(FakeEngine):
    """Does not take its experts the first time."""

    adoptions = 0

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str] = frozenset()) -> None:
        self.adoptions += 1
        if self.adoptions == 1:
            raise RuntimeError("not now")
        await super().adopt(experts, pinned)


async def up(*specs: ExpertSpec, engine: type[FakeEngine] = FakeEngine) -> tuple[Worker, list[FakeEngine]]:
    made: list[FakeEngine] = []

    def make(roster: Roster) -> FakeEngine:
        made.append(engine("f", roster.experts, token_delay=0.001))
        return made[-1]

    worker = Worker("f", Roster(specs, version="first"), make, poll=0.01, retry=0.01)
    worker.launch()
    await until(worker, "first")
    return worker, made


async def until(worker: Worker, version: str) -> None:
    async with asyncio.timeout(10):
        while (await worker.stats()).roster != version:
            await asyncio.sleep(0.001)


async def test_an_expert_that_is_added_answers_and_the_engine_stays() -> None:
    worker, made = await up(spec("a"))
    refused = (await events(worker.generate(call("b"))))[-1]
    assert isinstance(refused, Failure)
    assert refused.code == "expert_unavailable"
    worker.adopt(Roster((spec("a"), spec("b")), version="second"))
    await until(worker, "second")
    assert length(await events(worker.generate(call("b")))) == 32
    assert (await worker.stats()).tiers == {"a": "device", "b": "device"}
    assert len(made) == 1
    await worker.close()


async def test_calls_of_an_expert_that_is_removed_end_and_later_ones_are_refused() -> None:
    worker, made = await up(spec("a"), spec("b"))
    running = asyncio.create_task(events(worker.generate(call("b"))))
    await made[0].reaches(1)
    worker.adopt(Roster((spec("a"),), version="second"))
    await until(worker, "second")
    assert not running.done()
    refused = (await events(worker.generate(call("b", "late"))))[-1]
    assert isinstance(refused, Failure)
    assert refused.code == "expert_unavailable"
    assert length(await running) == 32
    assert (await worker.stats()).tiers == {"a": "device"}
    await worker.close()


async def test_an_answer_is_of_one_version_of_its_expert_whatever_happens_meanwhile() -> None:
    worker, made = await up(spec("a"), spec("b", "v0", 10))
    lengths: list[int] = []

    async def ask(name: str) -> None:
        lengths.extend([length(await events(worker.generate(call(name, number)))) for number in range(20)])

    load = [asyncio.create_task(ask(name)) for name in "aabb"]
    for version in range(1, 8):
        await asyncio.sleep(0.03)
        worker.adopt(Roster((spec("a"), spec("b", f"v{version}", 10 + version)), version=f"v{version}"))
        await until(worker, f"v{version}")
    await asyncio.gather(*load)
    assert len(lengths) == 80
    assert set(lengths) <= {32, *range(10, 18)}
    assert length(await events(worker.generate(call("b", "last")))) == 17
    assert (len(made), made[0].failed) == (1, 0)
    await worker.close()


async def test_an_engine_that_does_not_take_its_experts_is_asked_again() -> None:
    worker, made = await up(spec("a"), engine=Failing)
    worker.adopt(Roster((spec("a"), spec("b")), version="second"))
    assert (await worker.stats()).roster == ""
    await until(worker, "second")
    assert isinstance(made[0], Failing)
    assert made[0].adoptions == 2
    await worker.close()


async def test_an_engine_that_is_started_anew_has_the_experts_of_now() -> None:
    worker, made = await up(spec("a"))
    worker.adopt(Roster((spec("a"), spec("b")), version="second"))
    await until(worker, "second")
    made[0].die()
    async with asyncio.timeout(10):
        while len(made) < 2:
            await asyncio.sleep(0.001)
    await until(worker, "second")
    assert length(await events(worker.generate(call("b")))) == 32
    await worker.close()


async def test_what_is_adopted_before_the_engine_is_up_is_what_it_starts_with() -> None:
    made: list[tuple[str, ...]] = []

    def make(roster: Roster) -> FakeEngine:
        made.append(roster.names)
        return FakeEngine("f", roster.experts)

    worker = Worker("f", Roster((spec("a"),), version="first"), make, poll=0.01)
    worker.adopt(Roster((spec("b"),), version="second"))
    worker.launch()
    await until(worker, "second")
    assert made == [("b",)]
    await worker.close()


# Families that share a device


async def test_a_family_that_is_awake_takes_an_expert_at_once_and_one_that_sleeps_when_it_wakes(bench: Bench) -> None:
    bench.launch(families="ab")
    await bench.ask("a one")
    for family in "ab":
        bench.device.adopt(family, roster(family, f"{family}1", f"{family}2"))
    async with asyncio.timeout(10):
        while (await bench.device.stats())["a"].roster != "a1 a2":
            await asyncio.sleep(0.001)
    stats = await bench.device.stats()
    assert stats["a"].tiers == {"a1": "device", "a2": "device"}
    assert stats["b"].tiers == {"b1": "disk", "b2": "disk"}
    for name in ("a2", "b2"):
        asked = ChatCall(name, name, ({"role": "user", "content": f"{name} hello"},))
        assert isinstance((await events(bench.device.generate(asked)))[-1], Finish)
    assert [line for line in bench.log if line.startswith("start")] == ["start a", "start b"]


async def test_a_family_that_fell_asleep_wakes_with_the_experts_of_now(bench: Bench) -> None:
    bench.launch(families="ab")
    await bench.ask("a one")
    await bench.ask("b one")
    assert (await bench.tiers())["a1"] == "host"
    bench.device.adopt("a", roster("a", "a3"))
    gone = await bench.ask("a two")
    assert isinstance(gone[-1], Failure)
    assert gone[-1].code == "expert_unavailable"
    asked = ChatCall("a3", "a3", ({"role": "user", "content": "a three"},))
    assert isinstance((await events(bench.device.generate(asked)))[-1], Finish)
    assert (await bench.device.stats())["a"].roster == "a3"


async def test_a_family_may_take_more_of_the_device_with_more_experts(bench: Bench) -> None:
    bench.launch(memory=2)
    await bench.ask("a one")
    await bench.ask("b one")
    assert (await bench.tiers()) == {"a1": "device", "b1": "device", "c1": "disk"}
    bench.device.adopt("c", roster("c", "c1", "c2"), 2)
    await bench.ask("c one")
    assert (await bench.tiers()) == {"a1": "host", "b1": "host", "c1": "device", "c2": "device"}


# Remote experts


class Said(FakeListChatModel):
    """Says what it is told to."""


def remote(name: str, said: str) -> ExpertSpec:
    options: dict[str, Any] = {"responses": [said], "sleep": 0.001}
    return ExpertSpec(name=name, kind="remote", source=f"{__name__}:Said", family="f", options=options)


async def test_a_call_of_a_remote_expert_goes_on_with_the_model_that_it_began_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.remote.import_module", lambda _: __import__("types").SimpleNamespace(Said=Said))
    engine = RemoteEngine("f", [remote("a", "old " * 20), remote("b", "stays")])
    await engine.start()
    text = ""
    async with aclosing(engine.generate(call("a"))) as stream:
        async for event in stream:
            if isinstance(event, Delta):
                if not text:
                    await engine.adopt([remote("a", "new"), remote("c", "here")])
                text += event.text
    assert text == "old " * 20
    assert (await engine.stats()).tiers == {"a": "remote", "c": "remote"}
    said = {name: await events(engine.generate(call(name))) for name in "abc"}
    assert isinstance(said["b"][-1], Failure)
    texts = {name: "".join(e.text for e in said[name] if isinstance(e, Delta)) for name in "ac"}
    assert texts == {"a": "new", "c": "here"}


# Images


def test_an_image_that_is_removed_leaves_every_tier_and_what_others_share_with_it_stays(tmp_path: Path) -> None:
    with shelves(tmp_path) as make:
        files = ImageFiles(tmp_path / "files", "f")
        shelf = make(3, host_bytes=1000, files=files)
        for name in "012":
            loaded(shelf.store, name)
        shelf.store.activate("0")
        assert shelf.store.sizes() == (dict.fromkeys("012", OWN), SHARED)
        assert files.holds("0", shelf.print_of("0"))
        shelf.store.remove("0")
        assert happened(shelf.store.poll()) == [("evicted", "0", "device", "host")]
        assert (shelf.store.active, "0" in shelf.store) == (None, False)
        assert shelf.store.sizes() == (dict.fromkeys("12", OWN), SHARED)
        assert shelf.store.stats()["tier_bytes"] == {"device": 2 * OWN + SHARED, "host": 2 * OWN + SHARED}
        assert not files.holds("0", shelf.print_of("0"))
        shelf.store.remove("1")
        assert shelf.store.sizes() == ({"2": OWN + SHARED}, 0)
        shelf.store.activate("2")
        assert shelf.computes(2)


def test_a_load_of_an_image_that_is_removed_comes_to_nothing(tmp_path: Path) -> None:
    with shelves(tmp_path) as make:
        shelf, gate = make(2), Gate()
        shelf.before_tensor = gate
        shelf.store.begin("1")
        assert gate.entered.wait(30)
        shelf.store.remove("1")
        gate.opened.set()
        shelf.before_tensor = lambda: None
        assert [event.kind for event in loaded(shelf.store, "0")] == ["cancelled", "loaded"]
        assert set(shelf.store.stats()["tiers"]) == {"0"}


def test_other_weights_of_an_expert_are_another_image_with_the_file_of_the_expert(tmp_path: Path) -> None:
    with shelves(tmp_path) as make:
        files = ImageFiles(tmp_path / "files", "f")
        shelf = make(2, files=files)
        loaded(shelf.store, "1")
        former = shelf.print_of("1")
        shelf.put("1", weights(7))
        new = image_name("1", 3)
        assert expert_of(new) == "1"
        shelf.names[new] = "1"
        shelf.store.add(new, shelf.print_of("1"))
        loaded(shelf.store, new)
        shelf.store.activate(new)
        assert shelf.computes(7)
        shelf.store.activate("1")
        assert shelf.computes(1)
        assert files.holds("1", shelf.print_of("1"))
        shelf.store.remove("1")
        assert (files.holds("1", former), files.holds("1", shelf.print_of("1"))) == (False, True)


# The policy


def test_an_image_that_is_forgotten_is_chosen_no_more_and_its_room_is_free() -> None:
    policy = SwapPolicy(SwapSettings(), capacity=2)
    for name in "ab":
        policy.place(name, "device", 1)
    policy.place("c", "disk", 1)
    policy.arrive("r1", "a", 0.0)
    assert policy.decide(0.0).expert == "a"
    policy.start("r1")
    policy.arrive("r2", "c", 0.1)
    policy.forget("a")
    decision = policy.decide(0.2)
    assert (decision.expert, decision.load, decision.evict) == (None, "c", ())
    policy.finish("r1")
    policy.loaded("c", "disk", 0.1)
    policy.place("c", "device", 1)
    assert policy.decide(0.4).expert == "c"
    policy.forget("nobody")


def test_other_images_are_pinned_while_it_runs() -> None:
    policy = SwapPolicy(SwapSettings(pinned=frozenset("a")), capacity=2)
    for name in "ab":
        policy.place(name, "device", 1)
    policy.place("c", "disk", 1)
    policy.pin(frozenset("b"))
    policy.arrive("r1", "c", 0.0)
    decision = policy.decide(0.0)
    assert (decision.load, decision.evict) == ("c", ("a",))
    policy.pin(frozenset())
    policy.place("d", "disk", 2)  # as large as the device, beside which nothing may be pinned


# Who goes together


def test_an_engine_has_room_for_a_few_more_adapters_than_it_starts_with() -> None:
    def room(count: int) -> AdapterRoom | None:
        base = ExpertSpec(name="base", source="x", family="f")
        more = [ExpertSpec(name=f"a{n}", kind="adapter", base="base", source="org/lora") for n in range(count)]
        return adapter_room([base, *more])

    assert room(0) is None
    assert [room(count) for count in (1, 2, 3, 6, 7)] == [AdapterRoom(slots, 16) for slots in (4, 4, 8, 8, 16)]
    assert AdapterRoom(8, 16).adapters == 6  # one slot is empty, one is for an adapter that takes another's place
