"""What runs where: a replica for each family, and one for each device that families share."""

import json
import struct
from pathlib import Path

import pytest

from orchestrator.config.autoscaling import AutoscalingConfig
from orchestrator.config.model import Config
from orchestrator.plans import DevicePlan, FamilyPlan, TooFewCores, check_room, make_device, make_engine, plans
from workers.base import ChatCall, Finish
from workers.fake_engine import FakeEngine

GIB = 2**30


def config(tmp_path: Path, **device: object) -> Config:
    """Families a (two experts with 1 GiB of weights each), b (one expert) and c; a and b share a device."""
    experts = [{"name": name, "family": name[0], "source": str(tmp_path / name)} for name in ("a1", "a2", "b1", "c1")]
    for expert in experts:
        folder = Path(expert["source"])
        folder.mkdir(parents=True)
        for name in ("config.json", "tokenizer_config.json"):
            (folder / name).write_text("{}")
        with (folder / "model.bin").open("wb") as weights:
            weights.truncate(GIB)  # takes no room on the disk
    return Config.model_validate(
        {
            "experts": experts,
            "router": {"kind": "fixed", "fallback": "a1"},
            "families": {
                "a": {"device": "one", "engine": "fake", "kv_cache_gib": 2},
                "b": {"device": "one", "engine": "fake", "memory_gib": 4 if device.get("memory_gib") else None},
                "c": {"engine": "fake"},
            },
            "devices": {"one": device},
        }
    )


def test_families_of_a_device_have_a_replica_together(tmp_path: Path) -> None:
    made = config(tmp_path, num_cpus=8)
    found = plans(made, made.registry(), tmp_path)
    assert list(found) == ["coe-c", "coe-device-one"]
    alone, shared = found.values()
    assert isinstance(alone, FamilyPlan)
    assert isinstance(shared, DevicePlan)
    assert (alone.family, alone.config.num_cpus) == ("c", 1)
    assert [plan.family for plan in shared.families] == ["a", "b"]
    assert shared.config.num_cpus == 8
    assert all(isinstance(make_engine(plan), FakeEngine) for plan in (alone, *shared.families))


def test_more_cores_than_there_are_is_told(tmp_path: Path) -> None:
    made = config(tmp_path, num_cpus=1.5)
    found = plans(made, made.registry(), tmp_path)
    check_room(found, {"CPU": 2.5})
    with pytest.raises(TooFewCores) as told:
        check_room(found, {"CPU": 2.0})
    assert str(told.value).startswith(
        "the families want 2.5 CPU cores (c 1, device-one 1.5) and this machine has 2: lower families.<name>.num_cpus"
    )


def test_every_worker_of_a_family_needs_room(tmp_path: Path) -> None:
    made = config(tmp_path, num_cpus=1, replicas=2)
    found = plans(made, made.registry(), tmp_path)
    check_room(found, {"CPU": 3})
    with pytest.raises(TooFewCores, match=r"want 3 CPU cores \(c 1, device-one 2\)"):
        check_room(found, {"CPU": 2})


def test_the_least_workers_of_all_need_room_and_the_most_of_each_beside_those(tmp_path: Path) -> None:
    made = config(tmp_path, num_cpus=1, autoscaling={"min_replicas": 2, "max_replicas": 4})
    made = made.model_copy(update={"families": {**made.families, "c": made.families["c"].model_copy(
        update={"autoscaling": AutoscalingConfig(max_replicas=2)})}})  # fmt: skip
    found = plans(made, made.registry(), tmp_path)
    check_room(found, {"CPU": 5})  # not 6: each takes what the other has not
    with pytest.raises(TooFewCores) as told:
        check_room(found, {"CPU": 4})
    assert str(told.value).startswith(
        "device-one may have up to 4 workers, which want 4 CPU cores, the others 1, and this machine has 4: lower its "
        "autoscaling.max_replicas or num_cpus"
    )
    with pytest.raises(TooFewCores, match=r"want 3 CPU cores \(c 1, device-one 2\)"):
        check_room(found, {"CPU": 2})


def test_a_local_ray_has_no_nodes_that_are_marked(tmp_path: Path) -> None:
    made = config(tmp_path, num_cpus=1, resources={"fast": 0.5})
    found = plans(made, made.registry(), tmp_path)
    check_room(found, {"CPU": 2, "fast": 1})
    with pytest.raises(TooFewCores, match="device-one wants the resource 'fast', which a local Ray has not"):
        check_room(found, {"CPU": 2})


async def fits(made: Config, memory: float) -> bool:
    """Is there room for the family a on a device of so many GiB?"""
    [_, plan] = plans(made, made.registry(), Path("/home")).values()
    assert isinstance(plan, DevicePlan)
    device = make_device(DevicePlan("one", plan.config.model_copy(update={"memory_gib": memory}), plan.families[:1]))
    tiers = (await device.stats())["a"].tiers
    assert list(tiers) == ["a1", "a2"]
    assert all(tier == "starting" or tier.startswith("failed: it takes") for tier in tiers.values())
    return set(tiers.values()) == {"starting"}


async def test_a_family_takes_its_checkpoints_and_its_kv_cache(tmp_path: Path) -> None:
    made = config(tmp_path, memory_gib=4)
    assert await fits(made, 4)
    assert not await fits(made, 3.5)


async def test_weights_count_as_the_engine_holds_them(tmp_path: Path) -> None:
    made = config(tmp_path, memory_gib=4)
    (tmp_path / "a1" / "model.bin").unlink()
    header = {"weight": {"dtype": "BF16", "shape": [GIB // 2], "data_offsets": [0, GIB]}}
    text = json.dumps(header).encode()
    with (tmp_path / "a1" / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + GIB)
    assert await fits(
        made, 5
    )  # 2 + 1 for the weights, of which the former are float32 in the engine, 2 for the KV cache
    assert not await fits(made, 4.5)


async def test_a_checkpoint_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    made = config(tmp_path, memory_gib=4)
    (tmp_path / "a1" / "model.bin").unlink()
    (tmp_path / "a1" / "model.safetensors").mkdir()
    assert await fits(made, 3)


def test_every_family_has_a_folder_of_its_own_under_the_home(tmp_path: Path) -> None:
    names = [".", "..", "../x", "/data/x", "a", "a b", "%2E", "%2E.", "llama-3.1"]
    experts = [{"name": f"e{n}", "family": name, "source": "org/model"} for n, name in enumerate(names)]
    made = Config.model_validate({"experts": experts, "router": {"kind": "fixed", "fallback": "e0"}})
    folders = [plan.folder for plan in plans(made, made.registry(), tmp_path).values() if isinstance(plan, FamilyPlan)]
    assert len({folder.resolve() for folder in folders}) == len(names)
    assert {folder.resolve().parent for folder in folders} == {tmp_path / "images"}
    assert tmp_path / "images" / "llama-3.1" in folders


async def test_a_device_answers_for_every_family_and_tells_of_each(tmp_path: Path) -> None:
    made = config(tmp_path)
    [_, plan] = plans(made, made.registry(), tmp_path).values()
    assert isinstance(plan, DevicePlan)
    device = make_device(plan)
    device.launch()
    for expert in ("b1", "a1", "a2"):
        call = ChatCall("r", expert, ({"role": "user", "content": "hello"},))
        *_, last = [event async for event in device.generate(call)]
        assert isinstance(last, Finish)
        assert last.expert == expert
    stats = await device.stats()
    assert {name: own.tiers for name, own in stats.items()} == {
        "a": {"a1": "device", "a2": "device"},
        "b": {"b1": "host"},
    }
    assert all(name == own.family for name, own in stats.items())
    await device.close()
