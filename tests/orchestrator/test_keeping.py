"""The workers on a cluster that gateways share: what is deployed, left alone and removed, and when."""

import asyncio
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator import keeping
from orchestrator.cli.main import app
from orchestrator.cli.report import ConsoleReporter
from orchestrator.cluster import ServeWorkers
from orchestrator.config.autoscaling import AutoscalingConfig
from orchestrator.config.load import load_config
from orchestrator.config.model import Config, DeviceConfig, FamilyConfig, RouterConfig, SwapConfig
from orchestrator.config.watch import Watched
from orchestrator.deployment import is_loaded, loading_file, until_loaded
from orchestrator.keeping import LINGER_S, Due, Keeper, Kept, keep_on
from orchestrator.listening import CannotStart
from orchestrator.placing import Placing
from orchestrator.plans import FamilyPlan, Plan, families_of, plans, version
from orchestrator.preparing import with_fake_engines
from orchestrator.rosters import Served, pack, unpack
from orchestrator.serve import serve
from orchestrator.settings import Settings
from tests.orchestrator.applying_parts import yaml
from tests.workers.channel_parts import bench
from workers.base import WorkerStats

HOME = Path("/srv/coe")


@dataclass
class Recorded:
    """Applications that are there, and what was done to them."""

    there: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    served: Mapping[str, Plan] = field(default_factory=dict)

    def names(self) -> frozenset[str]:
        return frozenset(self.there)

    def serve(self, found: Mapping[str, Plan], drain_s: float) -> None:
        self.served = found

    def deploy(self, apps: Mapping[str, str]) -> None:
        self.there |= apps.keys()
        self.done += [f"deploy {app} {version}" for app, version in apps.items()]

    def remove(self, app: str) -> None:
        self.there.remove(app)
        self.done.append(f"remove {app}")


def test_the_first_look_deploys_everything_and_the_next_nothing() -> None:
    keeper, serve = Keeper({"coe-a": "1", "coe-b": "1"}), Recorded({"coe-a"})
    keeper.look(serve, 0.0)
    assert serve.done == ["deploy coe-a 1", "deploy coe-b 1"]  # Serve leaves those of the same version alone
    assert keeper.look(serve, 5.0) == Due()


def test_what_is_lost_is_deployed_again() -> None:
    keeper, serve = Keeper({"coe-a": "1", "coe-b": "1"}), Recorded()
    keeper.look(serve, 0.0)
    serve.there = {"coe-b"}
    assert keeper.look(serve, 5.0) == Due(deploy=("coe-a",))
    serve.there = set()  # the head came back without its memory
    assert keeper.look(serve, 10.0) == Due(deploy=("coe-a", "coe-b"))


def test_what_is_no_longer_wanted_stays_for_gateways_that_still_use_it_and_then_goes() -> None:
    keeper, serve = Keeper({"coe-a": "1"}, linger_s=60.0), Recorded({"coe-old", "somebody-elses"})
    keeper.look(serve, 0.0)
    assert keeper.look(serve, 59.0) == Due()
    assert keeper.look(serve, 60.0) == Due(remove=("coe-old",))
    assert serve.there == {"coe-a", "somebody-elses"}


def test_what_is_wanted_again_in_between_does_not_count_as_old() -> None:
    keeper = Keeper({"coe-a": "1"}, linger_s=60.0)
    keeper.due({"coe-old"}, 0.0)
    keeper.due({"coe-a"}, 30.0)
    assert keeper.due({"coe-old"}, 61.0).remove == ()


def kept_file(folder: Path, serve: Recorded, *experts: str) -> tuple[Path, Kept]:
    """A coe.yaml of these experts, on two workers, and who keeps it."""
    path = folder / "coe.yaml"
    path.write_text(two_workers(*experts))

    def read() -> Config:
        return with_fake_engines(load_config(path, folder))

    return path, Kept(read(), HOME, serve, source=Watched(path, read), alive=folder / "alive")


def two_workers(*experts: str) -> str:
    return yaml(*experts).replace("engine: fake", "engine: fake, replicas: 2")


def experts_of(serve: Recorded) -> set[str]:
    return {spec.name for plan in serve.served.values() for own in families_of(plan) for spec in own.experts}


def test_experts_that_the_file_has_no_more_are_served_for_a_while(tmp_path: Path) -> None:
    serve = Recorded()
    path, kept = kept_file(tmp_path, serve, "one /m/1", "two /m/2")
    kept.look(0.0)
    path.write_text(two_workers("one /m/1", "three /m/3", "alone /m/4"))
    kept.look(5.0)
    assert experts_of(serve) == {"one", "two", "three", "alone"}
    kept.look(LINGER_S)
    assert experts_of(serve) == {"one", "two", "three", "alone"}
    kept.look(LINGER_S + 5.0)
    assert experts_of(serve) == {"one", "three", "alone"}
    assert [line.split()[1] for line in serve.done] == ["coe-f", "coe-f", "coe-g", "coe-f", "coe-g"]


async def test_workers_are_told_who_lives_on_them_as_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVERY_S", 0.01)
    serve = Recorded()
    path, kept = kept_file(tmp_path, serve, "one /m/1", "two /m/2")
    async with bench(2) as own:

        async def until(*experts: str) -> None:
            async with asyncio.timeout(60):
                while {name for server in own.servers for name in server.placed} != {*experts}:
                    await asyncio.sleep(0.01)

        workers = ServeWorkers(kept.found, Registry(()), {"coe-f": own.links}, Placing(every_s=0.01))
        task = asyncio.create_task(keep_on(kept, workers))
        await until("one", "two")
        assert sorted(server.placed for server in own.servers) == [("one",), ("two",)]
        kept._keeper.linger_s = 0.5  # for which one that is gone stays
        path.write_text(two_workers("one /m/1", "three /m/3"))
        await until("one", "two", "three")
        await until("one", "three")
        task.cancel()
        assert await asyncio.gather(task, return_exceptions=True)
        assert not own.links.up
    assert (tmp_path / "alive").exists()


async def test_what_is_deployed_once_is_not_waited_for(tmp_path: Path) -> None:
    serve = Recorded()
    _, kept = kept_file(tmp_path, serve, "one /m/1")
    await keep_on(kept, ServeWorkers({}, Registry(())), once=True)
    assert [line.split()[1] for line in serve.done] == ["coe-f"]


def versions(families: Mapping[str, FamilyConfig], **spec: str) -> dict[str, str]:
    expert = ExpertSpec(name="a", family="f", **{"source": "/models/a", **spec})
    config = Config(experts=(expert,), router=RouterConfig(kind="fixed", fallback="a"), families=dict(families))
    return {name: version(plan) for name, plan in plans(config, config.registry(), HOME).items()}


def test_more_workers_and_other_experts_are_no_new_version_but_other_settings_are() -> None:
    before = versions({"f": FamilyConfig()})
    assert versions({"f": FamilyConfig(replicas=4)}) == before
    for bounds in (AutoscalingConfig(max_replicas=4), AutoscalingConfig(min_replicas=2, max_replicas=2, queue_s=1)):
        assert versions({"f": FamilyConfig(autoscaling=bounds)}) == before
    assert versions({"f": FamilyConfig(swap=SwapConfig(pinned=("a",)))}) == before
    assert versions({}, source="/models/b") == before
    assert versions({"f": FamilyConfig(max_num_seqs=4)}) != before
    assert versions({"f": FamilyConfig(resources={"gpus-of-ours": 0.5})}) != before


def family(*experts: ExpertSpec, pinned: tuple[str, ...] | None = None) -> FamilyPlan:
    config = Config(
        experts=experts,
        router=RouterConfig(kind="fixed", fallback=experts[0].name),
        families={"f": FamilyConfig(swap=SwapConfig(pinned=pinned))},
    )
    [plan] = plans(config, config.registry(), HOME).values()
    assert isinstance(plan, FamilyPlan)
    return plan


def checkpoint(name: str, source: str = "/models/x") -> ExpertSpec:
    return ExpertSpec(name=name, source=source, family="f")


def adapters(base: str, count: int) -> list[ExpertSpec]:
    return [ExpertSpec(name=f"lora{n}", kind="adapter", base=base, source="/models/lora") for n in range(count)]


def test_what_running_workers_are_told_of_comes_back_as_it_was() -> None:
    plan = family(checkpoint("a"), *adapters("a", 2), pinned=("a",))
    told = unpack(json.loads(json.dumps(pack(plan))))
    assert told == {"f": Served(plan.roster, 0)}
    assert plan.roster.pinned == {"a"}
    assert pack(plan) == pack(family(checkpoint("a"), *adapters("a", 2), pinned=("a",)))


def test_running_workers_are_told_of_other_experts_pins_and_files(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    own = checkpoint("a", str(tmp_path))
    seen = [pack(family(own))]
    seen.append(pack(family(own, checkpoint("b"))))
    seen.append(pack(family(own, pinned=())))
    seen.append(pack(family(own.model_copy(update={"description": "better"}))))
    weights.write_bytes(b"other")
    seen.append(pack(family(own)))
    assert len({json.dumps(each) for each in seen}) == 5


def test_an_engine_is_started_anew_for_adapters_that_it_has_no_room_for() -> None:
    def of(count: int) -> str:
        return version(family(checkpoint("a"), *adapters("a", count)))

    assert of(0) != of(1)
    assert of(1) == of(2)
    assert of(2) != of(3)
    assert of(3) == of(6)


def test_a_worker_that_cannot_read_what_it_is_told_keeps_its_experts() -> None:
    with pytest.raises((ValueError, KeyError, zlib.error)):
        unpack({"rosters": "bm90aGluZw=="})


def test_a_keeper_that_wants_something_else_deploys_it_and_lets_the_former_go() -> None:
    keeper, serve = Keeper({"coe-a": "1", "coe-b": "1"}, linger_s=60.0), Recorded()
    keeper.look(serve, 0.0)
    keeper.want({"coe-a": "1", "coe-c": "1"})
    assert keeper.look(serve, 5.0) == Due(deploy=("coe-a", "coe-c"))
    assert keeper.look(serve, 10.0) == Due()
    assert keeper.look(serve, 65.0) == Due(remove=("coe-b",))


def test_a_shared_device_has_a_version_of_all_its_families() -> None:
    def of(**changes: int) -> str:
        experts = tuple(ExpertSpec(name=name, source=f"/models/{name}") for name in "ab")
        config = Config(
            experts=experts,
            router=RouterConfig(kind="fixed", fallback="a"),
            families={"a": FamilyConfig(device="d"), "b": FamilyConfig(device="d", **changes)},
            devices={"d": DeviceConfig(replicas=2)},
        )
        [plan] = plans(config, config.registry(), HOME).values()
        assert plan.config.replicas == 2
        return version(plan)

    assert of() == of()
    assert of() != of(max_num_seqs=3)


@pytest.mark.parametrize("command", [["workers", "keep"], ["workers", "remove"]])
def test_without_a_cluster_there_is_nothing_to_keep(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, command, env={"COE_HOME": str(tmp_path), "RAY_ADDRESS": ""})
    assert result.exit_code == 1
    assert "--ray-address" in result.output


def test_a_gateway_attaches_to_no_local_ray(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, host="127.0.0.1", port=8000)
    with pytest.raises(CannotStart, match="--ray-address"):
        serve(settings, Config(), ConsoleReporter(), attach=True)


@pytest.mark.parametrize(
    ("tiers", "is_so"),
    [
        ({"a": "device", "b": "host"}, True),
        ({"a": "device", "b": "failed: no weights"}, True),
        ({"a": "device", "b": "loading"}, False),
        ({"a": "starting"}, False),
    ],
)
def test_a_worker_is_loaded_once_every_expert_is_there_or_has_failed(tiers: dict[str, str], is_so: bool) -> None:
    assert is_loaded({"f": WorkerStats("f", {"c": "disk"}), "g": WorkerStats("g", tiers)}) is is_so


def test_a_file_stands_for_each_process_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COE_LOADING_FOLDER", raising=False)
    assert loading_file() is None
    monkeypatch.setenv("COE_LOADING_FOLDER", str(tmp_path / "loading"))
    assert loading_file() == tmp_path / "loading" / str(os.getpid())
    assert os.listdir(tmp_path / "loading") == [str(os.getpid())]


async def test_a_worker_is_waited_for_until_it_is_loaded() -> None:
    told = [{"a": "starting"}, {"a": "loading", "b": "device"}, {"a": "device", "b": "device"}, {"a": "never asked"}]
    checks: list[int] = []

    async def stats() -> dict[str, WorkerStats]:
        return {"f": WorkerStats("f", told.pop(0))}

    await until_loaded(stats, lambda: checks.append(len(told)), every=0.0)
    assert told == [{"a": "never asked"}]
    assert len(checks) == 2


async def test_an_engine_that_does_not_start_ends_the_wait() -> None:
    async def stats() -> dict[str, WorkerStats]:
        return {"f": WorkerStats("f", {"a": "starting"})}

    def check() -> None:
        raise RuntimeError("the engine of family f does not start")

    with pytest.raises(RuntimeError, match="does not start"):
        await until_loaded(stats, check, every=0.0)
