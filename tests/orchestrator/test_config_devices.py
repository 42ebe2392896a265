# ruff: noqa: E501 (messages are compared whole)
"""coe.yaml: families that share a device."""

from pathlib import Path

import pytest

from orchestrator.config.model import DeviceConfig, TurnsConfig
from tests.orchestrator.config_parts import read, told

SHARED = """\
experts: [{name: a, source: ./a}, {name: b, source: ./b}, {name: far, source: org/far}]
router: {kind: fixed, fallback: a}
families: {a: {device: one%s}, b: {device: one%s}, far: {%s}}
devices: {one: {%s}}
"""


def test_families_share_a_device(file: Path) -> None:
    config = read(file, SHARED % (", memory_gib: 3", "", "", "memory_gib: 4, num_cpus: 8, swap: {max_wait_s: 60}"))
    assert config.devices == {"one": DeviceConfig(memory_gib=4, num_cpus=8, swap=TurnsConfig(max_wait_s=60))}
    assert {name: config.family(name).device for name in ("a", "b", "far")} == {"a": "one", "b": "one", "far": None}
    assert {name: config.family(name).num_cpus for name in ("a", "b", "far")} == {"a": 8, "b": 8, "far": 1}


def test_the_device_says_whether_a_family_is_on_gpus(file: Path) -> None:
    config = read(file, SHARED % ("", "", "", "num_gpus: 1"))
    assert (config.family("a").num_gpus, config.family("a").effective_dtype) == (1, "auto")
    assert (config.family("far").num_gpus, config.family("far").effective_dtype) == (0, "float32")


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            ("", "", "device: on", ""),
            "3: families.far.device: got 'on', which is not in 'devices'; did you mean 'one'?",
        ),
        (
            ("", "", "device: gpu", ""),
            "3: families.far.device: got 'gpu', which is not in 'devices'; devices: one",
        ),
        (
            (", num_gpus: 1", "", "", ""),
            "3: families.a.num_gpus: is set by the device 'one'; leave it out",
        ),
        (
            (", num_cpus: 1", "", "", ""),
            "3: families.a.num_cpus: is set by the device 'one'; leave it out",
        ),
        (
            (", replicas: 2", "", "", ""),
            "3: families.a.replicas: is set by the device 'one'; leave it out",
        ),
        (
            (", autoscaling: {max_replicas: 2}", "", "", ""),
            "3: families.a.autoscaling: is set by the device 'one'; leave it out",
        ),
        (
            ("", "", "", "replicas: 1, autoscaling: {max_replicas: 2}"),
            "4: devices.one.replicas: does not go with 'autoscaling', which has min_replicas and max_replicas; leave one out",
        ),
        (
            ("", "", "resources: {CPU: 1}", ""),
            "3: families.far.resources.CPU: not to be set here: set 'num_cpus' instead",
        ),
        (
            ("", "", "", "resources: {memory: 1}"),
            "4: devices.one.resources.memory: not to be set here: engines take what their images and KV cache need",
        ),
        (
            ("", "", "resources: {fast: 0}", ""),
            "3: families.far.resources.fast: got 0; allowed: a number above 0",
        ),
        (
            (", kv_cache_gib: 2", "", "", "num_gpus: 1"),
            "3: families.a.kv_cache_gib: is for the CPU; with num_gpus above 0 set engine_args.gpu_memory_utilization",
        ),
        (
            (", engine_args: {enable_sleep_mode: false}", "", "", ""),
            "3: families.a.engine_args.enable_sleep_mode: not to be set here: the service sets it for families with a 'device'",
        ),
        (
            ("", "", "memory_gib: 2", ""),
            "3: families.far.memory_gib: is for families with a 'device'; leave it out",
        ),
        (
            (", memory_gib: 2", "", "", ""),
            "3: families.a.memory_gib: has no use: the device 'one' has none, so one family at a time is awake",
        ),
        (
            (", memory_gib: 5", "", "", "memory_gib: 4"),
            "3: families.a.memory_gib: got 5.0; the device 'one' has 4.0",
        ),
        (
            (", memory_gib: 3, kv_cache_gib: 2, images: {host_gib: 1}", "", "", "memory_gib: 4"),
            "3: families.a.memory_gib: got 3.0; allowed: more than kv_cache_gib and images.host_gib, 3.0",
        ),
        (
            (", memory_gib: 4, kv_cache_gib: 2, images: {device_gib: 1.5, host_gib: 1}", "", "", "memory_gib: 4"),
            "3: families.a.images.device_gib: got 1.5; allowed: up to 1.0, what kv_cache_gib and images.host_gib leave "
            "of memory_gib",
        ),
        (
            ("", "", "device: one", "memory_gib: 4"),
            "3: families.far.memory_gib: missing; how large 'org/far' on the hub is, is not known here",
        ),
        (
            (", memory_gib: 3", "", "", "memory_gib: 40, num_gpus: 1"),
            "3: families.b.memory_gib: missing; the device 'one' has GPUs and a memory_gib to keep",
        ),
        (
            ("", "", "", "num_gpus: 1.5"),
            "4: devices.one.num_gpus: got 1.5; allowed: up to 1 any part, above 1 whole numbers",
        ),
        (
            ("", "", "", "}, two: {"),
            "4: devices.two: no family is on this device; write 'device' in the sections of those that share it",
        ),
    ],
)
def test_what_does_not_go_with_a_device(file: Path, parts: tuple[str, ...], line: str) -> None:
    assert told(file, SHARED % parts) == [f"coe.yaml:{line}"]


def test_a_device_and_a_family_have_different_applications(file: Path) -> None:
    text = (
        (SHARED % ("", "", "", ""))
        .replace("org/far", "org/far, family: device-one")
        .replace("far: {}", "device-one: {}")
    )
    assert told(file, text) == ["coe.yaml:4: devices.one: a family has the name 'device-one'; rename one of them"]


def test_what_is_on_gpus_leaves_the_memory_of_the_device_alone(file: Path) -> None:
    part = ", memory_gib: 20, images: {device_gib: 60}"
    config = read(file, SHARED % (part, ", memory_gib: 20", "", "num_gpus: 1, memory_gib: 40"))
    assert config.family("a").images.device_gib == 60  # in host memory
