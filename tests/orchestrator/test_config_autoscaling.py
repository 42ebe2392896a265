# ruff: noqa: E501 (messages are compared whole)
"""coe.yaml: as many workers as the load wants."""

from pathlib import Path

import pytest

from orchestrator.config.autoscaling import AutoscalingConfig
from tests.orchestrator.config_parts import read, told

FAMILY = """\
experts: [{name: a, source: ./a}, {name: far, kind: remote, source: "langchain_openai:ChatOpenAI"}]
router: {kind: fixed, fallback: a}
families:
  a: {%s}
  far: {%s}
"""


def test_a_family_has_as_many_workers_as_its_load_wants(file: Path) -> None:
    own = read(file, FAMILY % ("autoscaling: {max_replicas: 4}", "")).family("a")
    assert own.autoscaling == AutoscalingConfig(
        min_replicas=1, max_replicas=4, queue_s=10, busy=0.7, upscale_delay_s=30, downscale_delay_s=600,
        look_back_period_s=30,
    )  # fmt: skip
    assert own.bounds == (1, 4)


def test_without_it_there_are_as_many_as_are_asked_for(file: Path) -> None:
    config = read(file, FAMILY % ("replicas: 3", ""))
    assert (config.family("a").bounds, config.family("far").bounds) == ((3, 3), (1, 1))


@pytest.mark.parametrize(
    ("family", "far", "line"),
    [
        (
            "autoscaling: {max_replicas: 2}, replicas: 1",
            "",
            "4: families.a.replicas: does not go with 'autoscaling', which has min_replicas and max_replicas; leave one out",
        ),
        (
            "autoscaling: {min_replicas: 3, max_replicas: 2}",
            "",
            "4: families.a.autoscaling.min_replicas: got 3; allowed: up to max_replicas, 2",
        ),
        ("autoscaling: {}", "", "4: families.a.autoscaling.max_replicas: missing; allowed: a whole number at least 1 and at most 1000"),
        (
            "autoscaling: {max_replicas: 2, initial_replicas: 2}",
            "",
            "4: families.a.autoscaling: unknown key 'initial_replicas'; did you mean 'min_replicas' or 'max_replicas'?",
        ),
        (
            "autoscaling: {min_replicas: 0, max_replicas: 2}",
            "",
            "4: families.a.autoscaling.min_replicas: got 0; allowed: a whole number at least 1 and at most 1000",
        ),
        ("autoscaling: {max_replicas: 2, queue_s: 0}", "", "4: families.a.autoscaling.queue_s: got 0; allowed: a number above 0"),
        (
            "autoscaling: {max_replicas: 2, look_back_period_s: 1}",
            "",
            "4: families.a.autoscaling.look_back_period_s: got 1; allowed: a number at least 5",
        ),
        (
            "",
            "autoscaling: {max_replicas: 2}",
            "5: families.far.autoscaling: has no meaning for remote experts; leave it out",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told(file: Path, family: str, far: str, line: str) -> None:
    assert told(file, FAMILY % (family, far)) == [f"coe.yaml:{line}"]
