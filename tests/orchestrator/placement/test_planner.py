"""The planner on a virtual clock, and with real channels to workers with a fake engine."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from experts.spec import ExpertSpec
from orchestrator.placement.planner import Asked, Planner, Seen, asked_since, keep_placed, unasked
from tests.orchestrator.placement.instances import GB, experts
from tests.workers.channel_parts import bench, call

NAMES = tuple(f"e{k}" for k in range(6))


class Cluster:
    """Workers that do what they are told, and count what they are asked."""

    def __init__(self, workers: int) -> None:
        self.placed = {f"w{k}": frozenset[str]() for k in range(workers)}
        self.asked: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in self.placed}
        self.planner = Planner(experts(*[1.0] * 6), ("f",), speed=100.0, device=80 * GB)
        self.now = 0.0

    def look(self) -> dict[str, frozenset[str]]:
        seen = [Seen(name, f"node of {name}", placed, self.asked[name]) for name, placed in self.placed.items()]
        orders = self.planner.look(seen, self.now)
        self.placed |= orders
        return orders

    def window(self, calls: Mapping[str, int]) -> dict[str, frozenset[str]]:
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
        for server, engine in zip(own.servers, own.engines, strict=True):
            assert {one.expert for one in engine.calls} == {*server.placed}
            assert len(engine.calls) == 5
