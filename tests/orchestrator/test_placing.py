"""Which workers have a planner, and what it begins with."""

import json
from pathlib import Path

import pytest

from experts.spec import ExpertSpec
from orchestrator.config.aggregation import EnsembleConfig
from orchestrator.config.autoscaling import AutoscalingConfig
from orchestrator.config.model import Config, DeviceConfig, FamilyConfig, RouterConfig
from orchestrator.placement.model import CoSelection
from orchestrator.placement.planner import Planner
from orchestrator.placing import configured, planners
from orchestrator.plans import plans

FIXED = RouterConfig(kind="fixed", fallback="a")


def of(config: Config) -> dict[str, Planner]:
    return planners(plans(config, config.registry(), Path("/srv/coe")), config)


def test_only_families_of_several_workers_are_planned_for() -> None:
    experts = [ExpertSpec(name=name, source=f"/models/{name}", family=name.upper()) for name in "ab"]
    found = of(Config(experts=tuple(experts), router=FIXED, families={"B": FamilyConfig(replicas=3)}))
    assert found.keys() == {"coe-B"}
    assert found["coe-B"].workers == 3
    assert [own.expert for own in found["coe-B"].known] == ["b"]


def test_a_family_that_may_have_several_workers_is_planned_for_from_its_first_one_on() -> None:
    experts = tuple(ExpertSpec(name=name, source=f"/models/{name}", family=name.upper()) for name in "ab")
    bounds = {"A": AutoscalingConfig(max_replicas=4), "B": AutoscalingConfig(max_replicas=1)}
    families = {name: FamilyConfig(autoscaling=own) for name, own in bounds.items()}
    found = of(Config(experts=experts, router=FIXED, families=families))
    assert {app: own.workers for app, own in found.items()} == {"coe-A": 1}


def test_experts_without_weights_need_no_place() -> None:
    experts = (
        ExpertSpec(name="a", source="/models/a"),
        ExpertSpec(name="r", kind="remote", source="langchain_openai:ChatOpenAI"),
    )
    assert of(Config(experts=experts, router=FIXED, families={"r": FamilyConfig(replicas=2)})) == {}


def test_the_families_of_a_device_are_planned_for_together() -> None:
    experts = tuple(ExpertSpec(name=name, source=f"/models/{name}") for name in "ab")
    device = {"d": DeviceConfig(replicas=2)}
    families = {name: FamilyConfig(device="d") for name in "ab"}
    [(app, own)] = of(Config(experts=experts, router=FIXED, families=families, devices=device)).items()
    assert (app, own.families) == ("coe-device-d", ("a", "b"))
    assert own.workers == 2
    assert {known.family for known in own.known} == {"a", "b"}


def test_images_are_as_large_as_their_files_until_workers_tell(tmp_path: Path) -> None:
    for name, items in (("a", 1000), ("tuned", 10)):
        folder = tmp_path / name
        folder.mkdir()
        header = json.dumps({"w": {"dtype": "F32", "shape": [items], "data_offsets": [0, 4 * items]}}).encode()
        file = "adapter_model.safetensors" if name == "tuned" else "model.safetensors"
        (folder / file).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * items))
        for config in ("config.json", "tokenizer_config.json"):
            (folder / config).write_text("{}")
        (folder / "adapter_config.json").write_text('{"r": 8}')
    experts = (
        ExpertSpec(name="a", source=str(tmp_path / "a")),
        ExpertSpec(name="tuned", kind="adapter", base="a", source=str(tmp_path / "tuned")),
        ExpertSpec(name="far", family="a", source="org/far"),
    )
    [own] = of(Config(experts=experts, router=FIXED, families={"a": FamilyConfig(replicas=2)})).values()
    assert [(known.expert, known.image, known.bytes) for known in own.known] == [
        ("a", "a", 4000.0),
        ("tuned", "a", 40.0),
        ("far", "far", 0.0),
    ]


@pytest.mark.parametrize(("k", "rate"), [(None, 1.0), (2, pytest.approx(1 / 3))])
def test_ensembles_tell_who_answers_together(k: int | None, rate: float) -> None:
    named = EnsembleConfig(experts=("a", "b", "c"), k=k, aggregator="vote")
    routed = EnsembleConfig(k=2, aggregator="vote")  # of whom nothing is known before it is asked
    assert configured({"n": named, "r": routed}) == (
        CoSelection("a", "b", rate),
        CoSelection("a", "c", rate),
        CoSelection("b", "c", rate),
    )
