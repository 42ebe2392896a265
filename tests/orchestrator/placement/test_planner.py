"""The planner on a virtual clock, and with real channels to workers with a fake engine."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from experts.spec import ExpertSpec
from orchestrator.placement import planner
from orchestrator.placement.measured import Asked
from orchestrator.placement.model import PlacementError
from orchestrator.placement.planner import Planner, Seen, asked_since, keep_placed, unasked
from orchestrator.placement.replan import replan
from tests.orchestrator.placement.instances import GB, experts
from tests.workers.channel_parts import bench, call
from workers.base import Finish, WorkerStats

NAMES = tuple(f"e{k}" for k in range(6))


class Cluster:
    """Workers that do what they are told, and count what they are asked."""

    def __init__(self, workers: int) -> None:
        self.placed = {f"w{k}": frozenset[str]() for k in range(workers)}
        self.asked: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in self.placed}
        self.told = {name: WorkerStats("f", {}) for name in self.placed}
        self.pairs: dict[str, dict[str, int]] = {}
        self.planner = Planner(experts(*[1.0] * 6), ("f",), speed=100.0, device=80 * GB)
        self.now = 0.0
        self.there = 0

    def look(self) -> dict[str, tuple[str, ...]]:
        seen = [
            Seen(name, f"node of {name}", placed, self.asked[name], {"f": self.told[name]}, self.pairs)
            for name, placed in self.placed.items()
        ]
        orders = self.planner.look(seen, self.now, self.there)
        self.placed |= {name: frozenset(experts) for name, experts in orders.items()}
        return orders

    def window(self, calls: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        """A minute in which each expert is called so often, for 10 tokens, at its homes in turn."""
        for expert, number in calls.items():
            homes = [name for name, placed in self.placed.items() if expert in placed]
            for k in range(number):
                counts = self.asked[homes[k % len(homes)]]
                before = counts.get(expert, (0, 0))
                counts[expert] = before[0] + 1, before[1] + 10
        self.now += 60.0
        return self.look()

    def lose(self, worker: str) -> None:
        del self.placed[worker], self.asked[worker]

    def add(self, worker: str) -> None:
        """One that has just been started."""
        self.placed[worker], self.asked[worker], self.told[worker] = frozenset(), {}, WorkerStats("f", {})


def test_what_nobody_placed_is_placed_at_the_first_look_evenly() -> None:
    own = Cluster(3)
    assert own.look().keys() == {"w0", "w1", "w2"}
    assert {*NAMES} == {name for placed in own.placed.values() for name in placed}
    assert len({len(placed) for placed in own.placed.values()}) == 1
    assert own.look() == {}


def test_even_load_changes_nothing_and_one_that_stays_uneven_does_in_the_third_window() -> None:
    own = Cluster(3)
    own.look()
    for _ in range(4):
        assert own.window(dict.fromkeys(NAMES, 200)) == {}
    hot = {name: 500 if name in own.placed["w0"] else 50 for name in NAMES}
    assert own.window(hot) == {}
    assert own.window(hot) == {}
    assert own.window(hot) != {}
    for _ in range(4):
        assert own.window(hot) == {}


def test_experts_of_a_worker_that_is_gone_are_placed_at_the_next_look() -> None:
    own = Cluster(3)
    own.look()
    lost, others = own.placed["w1"], {"w0": own.placed["w0"], "w2": own.placed["w2"]}
    own.lose("w1")
    own.look()
    assert {name for placed in own.placed.values() for name in placed} == {*NAMES}
    assert all(own.placed[name] - before <= lost for name, before in others.items())
    assert all(before <= own.placed[name] for name, before in others.items())


def test_a_planner_that_is_started_anew_finds_the_placement_with_the_workers() -> None:
    own = Cluster(3)
    own.look()
    own.planner = Cluster(3).planner
    assert own.look() == {}


def test_nothing_is_decided_before_as_many_workers_are_there_as_are_to_be() -> None:
    own = Cluster(1)
    own.planner.workers, own.planner.patience_s = 3, 100.0
    assert own.look() == {}
    own.add("w1")
    own.now = 50.0
    assert own.look() == {}
    own.add("w2")
    assert own.look().keys() == {"w0", "w1", "w2"}
    own.lose("w1")  # a loss from now on, not one that is awaited
    own.look()
    assert {name for placed in own.placed.values() for name in placed} == {*NAMES}


def test_one_that_is_started_anew_waits_for_all_workers_that_there_are_by_then() -> None:
    own = Cluster(3)
    own.look()
    there = dict(own.placed)
    own.planner = Cluster(3).planner  # whose workers are one at least, as many as the load wants
    own.there = 3
    own.lose("w2")  # not met yet
    assert own.look() == {}
    own.add("w2")
    own.placed["w2"] = there["w2"]
    assert own.look() == {}
    assert own.placed == there


def test_a_worker_that_comes_for_a_load_gets_experts_at_once_and_one_that_goes_gives_them_back() -> None:
    own = Cluster(1)
    own.look()
    for _ in range(3):
        assert own.window(dict.fromkeys(NAMES, 500)) == {}
    own.add("w1")
    own.now += 5.0
    assert own.look().keys() == {"w0", "w1"}
    assert sorted(len(placed) for placed in own.placed.values()) == [3, 3]
    own.lose("w0")
    own.now += 5.0
    own.look()
    assert own.placed == {"w1": {*NAMES}}


def test_experts_that_come_are_placed_at_the_next_look_and_nobody_else_moves() -> None:
    own = Cluster(3)
    own.look()
    before = dict(own.placed)
    assert own.window(dict.fromkeys(NAMES, 200)) == {}
    own.planner.follow(Planner(experts(*[1.0] * 9), ("f",)))
    orders = own.look()
    assert {name for placed in own.placed.values() for name in placed} == {*NAMES, "e6", "e7", "e8"}
    assert orders.keys() == {name for name in before if own.placed[name] != before[name]}
    assert all(before[name] <= own.placed[name] for name in before)
    assert own.look() == {}


def test_experts_that_go_leave_their_workers_at_the_next_look() -> None:
    own = Cluster(3)
    own.look()
    before = dict(own.placed)
    own.planner.follow(Planner(experts(*[1.0] * 4), ("f",)))
    gone = {"e4", "e5"}
    assert own.look().keys() == {name for name in before if before[name] & gone}
    assert own.placed == {name: placed - gone for name, placed in before.items()}
    assert own.window(dict.fromkeys(NAMES[:4], 200)) == {}


def test_what_was_seen_of_the_load_counts_on_when_experts_change() -> None:
    own = Cluster(3)
    own.look()
    hot = {name: 500 if name in own.placed["w0"] else 50 for name in NAMES}
    assert own.window(hot) == {}
    assert own.window(hot) == {}
    own.planner.follow(Planner(experts(*[1.0] * 7), ("f",)))
    own.look()
    busy = own.placed["w0"]
    assert not any(placed & busy for name, placed in own.placed.items() if name != "w0")
    own.window(hot)
    assert any(placed & busy for name, placed in own.placed.items() if name != "w0")


def test_an_expert_with_other_weights_stays_where_it_is_and_is_as_large_as_these() -> None:
    own = Cluster(2)
    own.look()
    before = dict(own.placed)
    others = [replace(demand, bytes=78 * GB if demand.expert == "e0" else GB) for demand in experts(*[1.0] * 7)]
    own.planner.follow(Planner(others, ("f",)))
    own.look()
    assert all(before[name] <= own.placed[name] for name in before)
    [home] = [name for name, placed in own.placed.items() if "e0" in placed]
    assert "e6" not in own.placed[home]  # which would no longer fit the device there


def test_a_change_while_a_plan_is_made_is_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Cluster(3)

    def slow(*arguments: object) -> object:
        own.planner.follow(Planner(experts(*[1.0] * 7), ("f",)))
        monkeypatch.undo()
        return replan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(planner, "replan", slow)
    own.look()
    assert {name for placed in own.placed.values() for name in placed} == {*NAMES}
    own.look()
    assert {name for placed in own.placed.values() for name in placed} == {*NAMES, "e6"}


def test_workers_that_do_not_come_are_not_waited_for_for_ever() -> None:
    own = Cluster(2)
    own.planner.workers, own.planner.patience_s = 3, 100.0
    assert own.look() == {}
    own.now = 100.0
    assert own.look().keys() == {"w0", "w1"}


def test_experts_that_nobody_asks_are_spread_evenly_when_their_worker_is_lost() -> None:
    own = Cluster(4)
    own.planner.known = experts(*[1.0] * 12)
    own.look()
    assert own.window({}) == {}
    own.lose("w3")
    own.look()
    assert {len(placed) for placed in own.placed.values()} == {4}


def test_a_planner_that_is_started_anew_takes_no_worker_for_lost_that_it_has_not_met() -> None:
    own = Cluster(3)
    own.look()
    before = dict(own.placed)
    own.planner = Cluster(3).planner
    own.planner.workers = 3
    away = own.placed.pop("w1")
    assert own.look() == {}
    own.placed["w1"] = away
    assert own.look() == {}
    assert own.placed == before


def test_a_worker_that_comes_gets_experts_though_the_others_are_hardly_busy() -> None:
    own = Cluster(2)
    own.look()
    own.add("w2")
    for _ in range(2):
        assert own.window(dict.fromkeys(NAMES, 6)) == {}
    assert own.window(dict.fromkeys(NAMES, 6)).keys() >= {"w2"}
    assert own.placed["w2"]


def test_sizes_and_rooms_are_those_that_workers_tell() -> None:
    own = Cluster(2)
    sizes = {name: 30 * GB if name in ("e0", "e1") else 5 * GB for name in NAMES}
    for name in own.told:
        own.told[name] = WorkerStats("f", {}, image_bytes=sizes, room_bytes={"device": 40 * GB, "host": GB})
    own.look()
    for placed in own.placed.values():  # by what was assumed, any three would do
        assert sum(sizes[name] for name in placed) <= 40 * GB


def test_how_busy_workers_are_is_measured_by_their_own_seconds() -> None:
    """The same load, of workers that are computing 5 % or 60 % of the time for it."""

    def shifts(busy: float) -> bool:
        own = Cluster(3)
        own.look()
        hot = {name: 60 if name in own.placed["w0"] else 6 for name in NAMES}
        changed = False
        for window in range(1, 5):
            for name in own.placed:
                own.told[name] = WorkerStats("f", {}, busy_seconds=busy * 60.0 * window)
            changed |= own.window(hot) != {}
        return changed

    assert shifts(0.6)
    assert not shifts(0.05)


def test_experts_that_answer_the_same_requests_are_placed_apart() -> None:
    own = Cluster(3)
    own.pairs = {"e0": {"e1": 50, "e2": 50}, "e1": {"e2": 50}}
    own.look()
    assert all(len(placed & {"e0", "e1", "e2"}) == 1 for placed in own.placed.values())


def test_who_lives_on_a_worker_is_told_in_the_order_of_their_load_by_size() -> None:
    own = Cluster(1)
    own.planner.known = experts(3, 1, 2, 5, 0, 4)
    assert own.look() == {"w0": ("e3", "e5", "e0", "e2", "e1", "e4")}


def test_without_workers_there_is_nothing_to_tell() -> None:
    own = Cluster(0)
    assert own.look() == {}


def test_demand_is_what_was_counted_in_the_window() -> None:
    before: dict[str, Asked] = {"w0": {"e0": (10, 1000)}, "gone": {"e0": (99, 9999)}}
    after: dict[str, Asked] = {"w0": {"e0": (30, 3000)}, "new": {"e0": (4, 400), "e1": (0, 50)}}
    first, second, third = asked_since(experts(1, 1, 1), before, after, 10.0)
    assert (first.rate, first.tokens) == (2.4, 100.0)
    assert second.load == 5.0
    assert third.load == 0.0


def test_experts_without_weights_are_not_placed() -> None:
    specs = [
        ExpertSpec(name="c", family="f", source="org/c"),
        ExpertSpec(name="a", kind="adapter", base="c", family="f", source="org/a"),
        ExpertSpec(name="r", kind="remote", source="langchain_openai:ChatOpenAI"),
    ]
    found = unasked(specs, lambda spec: 10.0 if spec.kind == "checkpoint" else 1.0, 0.5)
    assert [(own.expert, own.image, own.bytes, own.load_s) for own in found] == [
        ("c", "c", 10.0, 5.0),
        ("a", "c", 1.0, 0.5),
    ]


async def test_workers_are_told_and_calls_go_where_their_expert_lives() -> None:
    known = unasked([ExpertSpec(name=name, family="f", source="org/m") for name in "ab"], lambda spec: GB, 1e-9)
    planner = Planner([replace(own, most=1) for own in known], ("f",), speed=100.0, device=4 * GB)
    async with bench(2) as own:
        task = asyncio.create_task(keep_placed(own.links, planner, 0.01))
        async with asyncio.timeout(10):
            while not all(server.placed for server in own.servers):
                await asyncio.sleep(0.01)
        for number in range(10):
            async for _ in own.links.generate(call(number, "ab"[number % 2])):
                pass
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [own.served[k].lives for k in range(2)] == [server.placed for server in own.servers]
        for server, engine in zip(own.servers, own.engines, strict=True):
            assert {one.expert for one in engine.calls} == {*server.placed}
            assert len(engine.calls) == 5


async def test_a_planner_that_fails_leaves_workers_as_they_are_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Planner):
        looks = 0

        def look(self, seen: Sequence[Seen], now: float, there: int = 0) -> dict[str, tuple[str, ...]]:
            Broken.looks += 1
            if Broken.looks < 3:
                raise [PlacementError("there is no room"), ZeroDivisionError()][Broken.looks - 1]
            return {own.worker: ("a",) for own in seen}

    async with bench(2) as own:
        task = asyncio.create_task(keep_placed(own.links, Broken([], ("f",)), 0.01))
        async with asyncio.timeout(10):
            while not all(server.placed == ("a",) for server in own.servers):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "there is no room" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_the_event_loop_runs_on_while_a_plan_is_made() -> None:
    begun, ends = threading.Event(), threading.Event()

    class Slow(Planner):
        def look(self, seen: Sequence[Seen], now: float, there: int = 0) -> dict[str, tuple[str, ...]]:
            begun.set()
            assert ends.wait(10)
            return {}

    async with bench(1) as own:
        task = asyncio.create_task(keep_placed(own.links, Slow([], ("f",)), 0.01))
        async with asyncio.timeout(10):
            while not begun.is_set():
                await asyncio.sleep(0.01)
            events = [event async for event in own.links.generate(call())]
        assert isinstance(events[-1], Finish)
        ends.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
