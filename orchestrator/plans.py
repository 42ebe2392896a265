"""What runs where: a worker for each family, and one for each device that families share.

`plans`         what each worker needs to know
`version`       of a plan: changes with what a worker must be started anew for; its rosters are what need not
`make_worker`   the worker of a family, `make_device` that of a device
`check_room`    have they room on this machine?
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.config.model import Config, DeviceConfig, FamilyConfig
from workers.base import Engine, Roster, SleepingEngine
from workers.checkpoints import adapter_problem, fingerprint, problem, weight_bytes
from workers.families import SharedDevice
from workers.family import Family
from workers.members import adapter_room
from workers.swap_policy import SwapSettings
from workers.worker import Worker


@dataclass(frozen=True)
class FamilyPlan:
    """What a worker needs to know. kind: "vllm", "remote" or "fake"; folder: for image files."""

    kind: str
    family: str
    experts: tuple[ExpertSpec, ...]
    config: FamilyConfig
    pinned: frozenset[str]
    folder: Path

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Expert -> that of the files of its weights, as they are when it is asked for first; "" where there are
        none."""
        return {spec.name: _fingerprint(spec) for spec in self.experts}

    @cached_property
    def roster(self) -> Roster:
        """Whom its worker serves. Its version changes with the fingerprints, too."""
        told = [[spec.model_dump(mode="json"), self.fingerprints[spec.name]] for spec in self.experts]
        return Roster(self.experts, self.pinned, _digest([told, sorted(self.pinned)]))

    def serving(self, roster: Roster) -> "FamilyPlan":
        """The same for other experts."""
        return replace(self, experts=roster.experts, pinned=roster.pinned)


@dataclass(frozen=True)
class DevicePlan:
    """The families that share a device."""

    name: str
    config: DeviceConfig
    families: tuple[FamilyPlan, ...]


Plan = FamilyPlan | DevicePlan


def families_of(plan: Plan) -> tuple[FamilyPlan, ...]:
    """Those that a worker of this plan serves."""
    return plan.families if isinstance(plan, DevicePlan) else (plan,)


def version(plan: Plan) -> str:
    """Changes with all that a running worker would have to be started anew for: not with its experts, as long as their
    adapters have room, nor with the number of workers or what decides it."""
    others: Any = {"replicas": True, "autoscaling": True, "swap": {"pinned"}}
    parts: list[object] = [plan.config.model_dump(mode="json", exclude=others)]
    for own in families_of(plan):
        room = adapter_room(own.experts) if own.kind == "vllm" else None
        parts.append([own.kind, own.family, str(own.folder), None if room is None else [room.slots, room.rank]])
        parts.append(own.config.model_dump(mode="json", exclude=others))
    return _digest(parts)


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _fingerprint(spec: ExpertSpec) -> str:
    try:
        return "" if spec.kind == "remote" else fingerprint(spec.source)
    except OSError:
        return ""


def make_engine(plan: FamilyPlan) -> Engine:
    """The engine of a family."""
    if plan.kind == "remote":
        from workers.remote import RemoteEngine

        return RemoteEngine(plan.family, plan.experts)
    return _make_local_engine(plan)


def _make_local_engine(plan: FamilyPlan) -> SleepingEngine:
    if plan.kind == "fake":
        from workers.fake_engine import FakeEngine

        names = ("token_delay", "slots", "images", "process")
        delay, slots, images, process = (plan.config.engine_args.get(f"fake_{name}") for name in names)
        return FakeEngine(
            plan.family, plan.experts, token_delay=delay or 0.0, slots=slots, images=images, process=bool(process)
        )
    from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings

    config, images = plan.config, plan.config.images
    return VllmEngine(
        plan.family,
        plan.experts,
        VllmSettings(
            dtype=config.effective_dtype,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            kv_cache_gib=config.kv_cache_gib,
            swap=SwapSettings(overhead=config.swap.overhead, max_wait=config.swap.max_wait_s, pinned=plan.pinned),
            strict=config.swap.strict,
            images=ImageSettings(
                device=_bytes(_device_gib(config)),
                host=_bytes(images.host_gib) or 0,
                disk=_bytes(images.disk_gib),
                folder=plan.folder if images.image_files else None,
            ),
            engine_args=config.engine_args,
            shares_device=config.device is not None,
        ),
    )


def _device_gib(config: FamilyConfig) -> float | None:
    """GiB for images on the device: on the CPU what memory_gib, if it is set, leaves for them."""
    if config.images.device_gib is None and config.memory_gib is not None and not config.num_gpus:
        return config.memory_gib - config.kv_cache_gib - config.images.host_gib
    return config.images.device_gib


def make_worker(plan: FamilyPlan) -> Worker:
    """A family, with its engine."""
    return Worker(plan.family, plan.roster, lambda roster: make_engine(plan.serving(roster)))


def make_device(plan: DevicePlan) -> SharedDevice:
    """The families of a device, each with its engine."""
    turns = plan.config.swap
    families = [Family(own.family, own.roster, partial(_engine_for, own), footprint(own)) for own in plan.families]
    settings = SwapSettings(overhead=turns.overhead, max_wait=turns.max_wait_s)
    return SharedDevice(plan.name, families, settings, memory=_bytes(plan.config.memory_gib))


def _engine_for(plan: FamilyPlan, roster: Roster) -> SleepingEngine:
    return _make_local_engine(plan.serving(roster))


def footprint(plan: FamilyPlan) -> int:
    """Bytes of its device's memory that a family takes while awake."""
    config, images = plan.config, plan.config.images
    if config.memory_gib is not None:
        return int(config.memory_gib * 2**30)
    weights = _bytes(images.device_gib)
    if weights is None:
        checkpoints = [spec for spec in plan.experts if spec.kind == "checkpoint"]
        weights = sum(_weight_bytes(spec, config.effective_dtype) for spec in checkpoints)
    return weights + int((config.kv_cache_gib + images.host_gib) * 2**30)


def image_bytes(plan: FamilyPlan) -> dict[str, int]:
    """Expert with weights -> bytes of its image, or of an adapter's own weights, by its files on this machine; 0 for a
    hub id, or where they are not here."""
    dtype = plan.config.effective_dtype
    return {spec.name: _weight_bytes(spec, dtype) for spec in plan.experts if spec.kind != "remote"}


def _weight_bytes(spec: ExpertSpec, dtype: str) -> int:
    """Bytes of an expert's weights in the engine; 0 for a broken one: the engine tells what is wrong with it."""
    broken = adapter_problem if spec.kind == "adapter" else problem
    try:
        return weight_bytes(spec.source, dtype) if broken(spec.source) is None else 0
    except OSError:
        return 0


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * 2**30)


def plans(config: Config, registry: Registry, home: Path) -> dict[str, Plan]:
    """Name of each Serve application -> what it serves: a family, or the families of a device."""
    alone: dict[str, Plan] = {}
    sharing: dict[str, list[FamilyPlan]] = {}
    for family, experts in registry.families().items():
        own = config.family(family)
        plan = FamilyPlan(
            config.engine(family), family, experts, own, config.pinned(family), home / "images" / _file_name(family)
        )
        if own.device is None:
            alone[f"coe-{family}"] = plan
        else:
            sharing.setdefault(own.device, []).append(plan)
    return alone | {
        f"coe-device-{name}": DevicePlan(name, config.devices[name], tuple(families))
        for name, families in sharing.items()
    }


def engine_of(config: Config, registry: Registry, home: Path) -> Callable[[str], Engine]:
    """Makes the engine of a family, for use in this process, without Ray."""
    found: dict[str, FamilyPlan] = {}
    for plan in plans(config, registry, home).values():
        found |= {own.family: own for own in families_of(plan)}
    return lambda family: make_engine(found[family])


def _file_name(family: str) -> str:
    """A name of its own for the folder of each family, whatever it is called: "/data/x", "..", "a b"."""
    return re.sub(r"^\.", "%2E", quote(family, safe=""))


class TooFewCores(RuntimeError):
    """The workers want more than this machine gives a local Ray. Ray would wait for it for ever."""


def check_room(found: Mapping[str, Plan], there: Mapping[str, float]) -> None:
    """The least workers of all must have room together, and the most of each beside the least of the others. So who has
    load may take what is free at the time. Raises TooFewCores; there: what the local Ray has, by Ray's names: CPU, GPU
    and others."""
    for app, plan in found.items():
        if strange := [name for name in plan.config.resources if name not in there]:
            raise TooFewCores(
                f"{app.removeprefix('coe-')} wants the resource {strange[0]!r}, which a local Ray has not: leave out "
                "'resources', or name a Ray cluster that has it"
            )
    for key, resource, thing in (("num_cpus", "CPU", "CPU cores"), ("num_gpus", "GPU", "GPUs")):
        one = {app: float(getattr(plan.config, key)) for app, plan in found.items()}
        least = {app: number * found[app].config.bounds[0] for app, number in one.items()}
        has = there.get(resource, 0.0) + 1e-9
        if sum(least.values()) > has:
            each = ", ".join(f"{app.removeprefix('coe-')} {number:g}" for app, number in least.items() if number)
            raise TooFewCores(
                f"the families want {sum(least.values()):g} {thing} ({each}) and this machine has "
                f"{there.get(resource, 0.0):g}: lower families.<name>.{key} in coe.yaml, which may be a part of one "
                "such as 0.5, let families share a device, or name a larger Ray cluster"
            )
        for app, number in one.items():
            most = found[app].config.bounds[1]
            if number * most + sum(least.values()) - least[app] > has:
                raise TooFewCores(
                    f"{app.removeprefix('coe-')} may have up to {most} workers, which want {number * most:g} {thing}, "
                    f"the others {sum(least.values()) - least[app]:g}, and this machine has "
                    f"{there.get(resource, 0.0):g}: lower its autoscaling.max_replicas or {key} in coe.yaml, or name a "
                    "Ray cluster that grows"
                )
