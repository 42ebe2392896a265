"""Experts come, go and change in a running gateway whose family has two workers: where they live then, and where their
calls go. Real channels, fake engines."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from experts.registry import Registry
from orchestrator.cluster import ServeWorkers
from orchestrator.placing import Placing
from orchestrator.plans import FamilyPlan, Plan, make_worker
from orchestrator.site import SwitchedWorkers
from orchestrator.store import Store
from tests.orchestrator.applying_parts import Live, LocalFleet, yaml
from tests.workers.channel_parts import HOST
from workers.base import ChatCall, Event, WorkerStats
from workers.channel import client
from workers.channel.client import Links
from workers.channel.frames import Address
from workers.channel.server import ChannelServer
from workers.fake_engine import FakeEngine
from workers.worker import Worker


def on(workers: int, *experts: str) -> str:
    return yaml(*experts).replace("engine: fake", f"engine: fake, replicas: {workers}")


@dataclass
class OfFamily:
    """What a replica of one family has behind its channel."""

    worker: Worker

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        return self.worker.generate(call)

    async def stats(self) -> Mapping[str, WorkerStats]:
        return {"f": await self.worker.stats()}

    def live(self, experts: Sequence[str]) -> None:
        self.worker.live(experts)


@dataclass
class TwoWorkers(LocalFleet):
    """Two workers of the family f behind channels, which follow what is deployed."""

    servers: dict[str, ChannelServer] = field(default_factory=dict)
    listed: list[Address] = field(default_factory=list)
    placing: Placing = field(default_factory=lambda: Placing(every_s=0.02))

    def workers(self, found: Mapping[str, Plan], registry: Registry, traces: str = "") -> SwitchedWorkers:
        return ServeWorkers(found, registry, {"coe-f": self.links}, self.placing)

    async def follow(self, found: Mapping[str, Plan]) -> None:
        self.loop, plan = asyncio.get_running_loop(), found["coe-f"]
        assert isinstance(plan, FamilyPlan)
        self.deployed.append({"f": plan.roster.names})
        if not self.running:
            for name in ("w0", "w1"):
                worker = self.running[name] = make_worker(plan)
                worker.launch()
                server = self.servers[name] = ChannelServer(OfFamily(worker), name)
                self.listed.append(await server.start(HOST))
            self.links = await Links(self._find).__aenter__()
        for worker in self.running.values():
            worker.adopt(plan.roster)

    async def _find(self) -> list[Address]:
        return self.listed

    @property
    def placed(self) -> dict[str, set[str]]:
        return {name: {*server.placed} for name, server in self.servers.items()}

    @property
    def living(self) -> set[str]:
        return set().union(*self.placed.values())

    def asked(self, worker: str) -> set[str]:
        """Whose calls came to a worker."""
        engine = self.running[worker]._engine
        assert isinstance(engine, FakeEngine)
        return {call.expert for call in engine.calls if not call.request_id.startswith("preload-")}

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways look and ask more often than once in seconds."""
    monkeypatch.setattr(client, "LOOK_S", 0.02)
    monkeypatch.setattr(client, "TOLD_S", 0.02)


@pytest.fixture
def fleet() -> TwoWorkers:
    return TwoWorkers()


@pytest_asyncio.fixture
async def live(store: Store, redis_url: str, tmp_path: Path, fleet: TwoWorkers) -> AsyncIterator[Live]:
    live = await Live.start(store, redis_url, tmp_path, on(2, "one /m/1", "two /m/2"), fleet)
    yield live
    await live.stop()
    for server in fleet.servers.values():
        await server.close(0)


async def test_an_expert_that_is_added_gets_a_home_and_its_calls_go_there(live: Live, fleet: TwoWorkers) -> None:
    await fleet.until(lambda: fleet.living == {"one", "two"})
    before = fleet.placed
    assert (await live.take(on(2, "one /m/1", "two /m/2", "three /m/3")))["added"] == ["three"]
    await fleet.until(lambda: "three" in fleet.living)
    assert all(before[name] <= fleet.placed[name] for name in before)
    [home] = [name for name, placed in fleet.placed.items() if "three" in placed]
    for _ in range(4):
        answer = await live.ask("three")
        assert answer.choices[0].message.content.startswith("three heard:")
    [other] = fleet.running.keys() - {home}
    assert "three" in fleet.asked(home)
    assert "three" not in fleet.asked(other)


async def test_an_expert_with_other_weights_stays_where_it_lives(live: Live, fleet: TwoWorkers) -> None:
    await fleet.until(lambda: fleet.living == {"one", "two"})
    before = fleet.placed
    assert (await live.take(on(2, "one /m/1", "two /m/2b 3", "three /m/3")))["replaced"] == ["two"]
    await fleet.until(lambda: "three" in fleet.living)
    assert {name: placed - {"three"} for name, placed in fleet.placed.items()} == before
    assert (await live.ask("two", words=20)).usage.completion_tokens == 3


async def test_one_that_is_removed_lives_on_until_its_last_call_has_ended(live: Live, fleet: TwoWorkers) -> None:
    await fleet.until(lambda: fleet.living == {"one", "two"})
    old, call = live.gateway.site, asyncio.create_task(live.ask("two", words=400))
    await fleet.until(lambda: any("two" in fleet.asked(name) for name in fleet.running))
    assert (await live.take(on(2, "one /m/1", "three /m/3")))["removed"] == ["two"]
    await fleet.until(lambda: "three" in fleet.living)
    assert not call.done()
    assert fleet.living == {"one", "two", "three"}
    assert (await call).usage.completion_tokens == 402
    await live.old_ended(old)
    await fleet.until(lambda: fleet.living == {"one", "three"})


async def test_a_family_is_planned_for_while_it_is_to_have_several_workers(live: Live, fleet: TwoWorkers) -> None:
    await fleet.until(lambda: fleet.living == {"one", "two"})
    before = fleet.placed
    await live.take(on(1, "one /m/1", "two /m/2", "three /m/3"))
    await live.old_ended(live.gateway.site)
    assert (await live.ask("three")).choices[0].message.content.startswith("three heard:")
    assert fleet.placed == before
    await live.take(on(2, "one /m/1", "two /m/2", "three /m/3"))
    await fleet.until(lambda: "three" in fleet.living)


async def test_a_gateway_that_ends_plans_no_more(live: Live, fleet: TwoWorkers) -> None:
    await fleet.until(lambda: fleet.living == {"one", "two"})
    await live.gateway.stop()
    assert not fleet.placing._at_work
    assert not fleet.links.up


async def test_metrics_of_a_family_do_not_fall_when_it_loses_a_worker(live: Live, fleet: TwoWorkers) -> None:
    async def swaps() -> float:
        text = (await http.get("/metrics")).text
        return float(text.partition('coe_swaps_total{family="f"} ')[2].partition("\n")[0])

    await fleet.until(lambda: fleet.living == {"one", "two"})
    async with live.http() as http:
        for worker in fleet.running.values():
            assert isinstance(worker._engine, FakeEngine)
            worker._engine._swaps = 5
        assert await swaps() == 10
        fleet.listed.pop()
        await fleet.servers["w1"].close(0)
        await fleet.until(lambda: len(fleet.links.up) == 1)
        assert await swaps() == 10
        assert 'coe_workers{family="f"} 1.0' in (await http.get("/metrics")).text
