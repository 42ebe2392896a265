"""Whether the parts of a coe.yaml go together, beyond what a type says: the way to each key that does not, and why."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from experts.registry import RegistryError, did_you_mean, one_of
from experts.spec import ExpertSpec
from orchestrator.config import aggregation_checks as config_aggregation_checks
from orchestrator.config.file import Problems, under

if TYPE_CHECKING:
    from experts.registry import Registry
    from orchestrator.config.model import Config, DeviceConfig, FamilyConfig, RouterConfig, TenantConfig
    from orchestrator.config.policies import PoliciesConfig

PATH = re.compile(r"(/|\.\.?(/|$)|~(/|$))")
"""How a folder begins; any other source of a local expert is a hub id."""

_OWN_ENGINE_ARGS = {
    "model": "the experts' own 'source' is what is loaded",
    "dtype": "set 'dtype' of the family instead",
    "max_model_len": "set 'max_model_len' of the family instead",
    "max_num_seqs": "set 'max_num_seqs' of the family instead",
    "async_scheduling": "the service sets it",
    "scheduling_policy": "the service sets it",
    "scheduler_cls": "the service brings its own",
    "worker_cls": "the service brings its own",
    "additional_config": "the service uses it itself",
    "enable_sleep_mode": "the service sets it for families with a 'device'",
    "hf_token": "a secret does not belong in this file; set HF_TOKEN in the environment",
}
_OWN_RESOURCES = {
    "CPU": "set 'num_cpus' instead",
    "GPU": "set 'num_gpus' instead",
    "memory": "engines take what their images and KV cache need",
    "object_store_memory": "the service keeps nothing there",
}
_NOT_ON_GPUS = "is for the CPU; with num_gpus above 0 set engine_args.gpu_memory_utilization"


def gpu_problem(number: float) -> str | None:
    """Why there is no such number of GPUs."""
    if number > 1 and not number.is_integer():
        return f"got {number}; allowed: up to 1 any part, above 1 whole numbers"
    return None


def resource_problems(names: Iterable[str]) -> Problems:
    """Of `resources`: what Ray counts under settings of its own."""
    for name in names:
        if name in _OWN_RESOURCES:
            yield ("resources", name), f"not to be set here: {_OWN_RESOURCES[name]}"


def family_problems(family: "FamilyConfig") -> Problems:
    """Of a family's section by itself."""
    yield from resource_problems(family.resources)
    if problem := gpu_problem(family.num_gpus):
        yield ("num_gpus",), problem
    if family.num_gpus and "kv_cache_gib" in family.model_fields_set:
        yield ("kv_cache_gib",), _NOT_ON_GPUS
    if family.images.disk_gib is not None and not family.images.image_files:
        yield ("images", "disk_gib"), "is for image files; write 'image_files: true' beside it, or leave it out"
    for key in family.engine_args:
        if not key.isidentifier():
            name = re.sub(r"\W", "_", key.lstrip("-"))
            yield ("engine_args", key), f"arguments are written with underscores: {name!r}"
        elif key in _OWN_ENGINE_ARGS:
            yield ("engine_args", key), f"not to be set here: {_OWN_ENGINE_ARGS[key]}"


def problems(config: "Config") -> Problems:
    """Of the sections with each other. Without a registry nothing else can be told."""
    try:
        registry = config.registry()
    except RegistryError as error:
        yield from ((("experts", problem.index, problem.field), problem.message) for problem in error.problems)
        return
    yield from under(("router",), _router(config.router, registry))
    yield from under(("policies",), _policies(config.policies, config.router))
    for name, tenant in config.tenants.items():
        yield from under(("tenants", name), _tenant(tenant, config, registry))
    yield from config_aggregation_checks.problems(config, registry)
    families = registry.families()
    for name, family in config.families.items():
        if name not in families:
            hint = did_you_mean(name, families) or f"; families of these experts: {', '.join(families)}"
            yield ("families", name), f"no expert is of this family{hint}"
        else:
            yield from under(("families", name), _family(family, families[name], config.devices))
    used = {family.device for family in config.families.values()}
    for name in config.devices:
        if name not in used:
            message = "no family is on this device; write 'device' in the sections of those that share it"
            yield ("devices", name), message
        if f"device-{name}" in families:
            yield ("devices", name), f"a family has the name 'device-{name}'; rename one of them"


def _router(router: "RouterConfig", registry: "Registry") -> Problems:
    if router.fallback is not None and router.fallback not in registry:
        hint = did_you_mean(router.fallback, registry.names)
        yield ("fallback",), f"got {router.fallback!r}, which no expert is named{hint}"
    if router.kind == "fixed" and router.fallback is None:
        yield ("fallback",), "missing; kind 'fixed' needs the expert that answers every prompt"
    if router.kind == "fixed" and router.path is not None:
        yield ("path",), "is for kind 'two-level', this router is of kind 'fixed'"
    if router.experts_per_request == 2 and router.aggregator == "vote":
        message = "got 2, with the aggregator 'vote', which needs at least 3: of two votes the heavier one always wins"
        yield ("experts_per_request",), message
    if router.kind == "fixed" and router.encoder != "minilm":
        yield ("encoder",), "is for kind 'two-level', this router is of kind 'fixed'"


def _policies(policies: "PoliciesConfig", router: "RouterConfig") -> Problems:
    number, conversation = policies.number, policies.conversation
    rules = [key for key in ("top_p", "skip_second", "mean") if getattr(number, key) is not None]
    if rules and router.experts_per_request == 1:
        message = "has no use while one expert answers; set experts_per_request of the router to the most that may"
        yield ("number", rules[0]), message
    elif number.mean is not None and number.mean > router.experts_per_request:
        message = f"got {number.mean}; allowed: up to experts_per_request of the router, {router.experts_per_request}"
        yield ("number", "mean"), message
    if number.mean is not None and rules != ["mean"]:
        yield ("number", rules[0]), "does not go with 'mean', which decides alone; leave one of them out"
    if "sharpness" in number.model_fields_set and not rules:
        yield ("number", "sharpness"), "has no use without 'top_p', 'skip_second' or 'mean'"
    if conversation.margin is None:
        for key in sorted(conversation.model_fields_set - {"margin"}):
            yield ("conversation", key), "has no use without 'margin', with which conversations keep their expert"


def _tenant(tenant: "TenantConfig", config: "Config", registry: "Registry") -> Problems:
    for index, name in enumerate(tenant.experts or ()):
        if name not in registry:
            yield ("experts", index), f"got {name!r}, which no expert is named{did_you_mean(name, registry.names)}"
    if tenant.router is not None:
        yield from under(("router",), _router(tenant.router, registry))
    router = tenant.router or config.router
    if tenant.policies is not None:
        yield from under(("policies",), _policies(tenant.policies, router))
    elif tenant.router is not None:
        for key, message in _policies(config.policies, router):
            yield ("router", "experts_per_request"), f"the service's policies.{'.'.join(map(str, key))} {message}"


def _family(family: "FamilyConfig", experts: tuple[ExpertSpec, ...], devices: "dict[str, DeviceConfig]") -> Problems:
    kinds = {spec.name: spec.kind for spec in experts}
    for index, pinned in enumerate(family.swap.pinned or ()):
        if kinds.get(pinned) != "checkpoint":
            message = f"got {pinned!r}, which is no checkpoint expert of this family{did_you_mean(pinned, kinds)}"
            yield ("swap", "pinned", index), message
    remote = experts[0].kind == "remote"
    if family.engine == ("vllm" if remote else "remote"):
        allowed, kind = (("remote", "fake"), "remote") if remote else (("vllm", "fake"), "local")
        yield ("engine",), f"got {family.engine!r}, but its experts are {kind}; allowed: {one_of(allowed)}"
    if remote:
        for key in sorted(family.model_fields_set - {"engine", "num_cpus", "replicas", "resources"}):
            yield (key,), "has no meaning for remote experts; leave it out"
    elif family.device is None:
        if family.memory_gib is not None:
            yield ("memory_gib",), "is for families with a 'device'; leave it out"
    elif (device := devices.get(family.device)) is None:
        hint = did_you_mean(family.device, devices) or f"; devices: {', '.join(devices) or 'none'}"
        yield ("device",), f"got {family.device!r}, which is not in 'devices'{hint}"
    else:
        yield from _sharing(family, experts, device)


def _sharing(family: "FamilyConfig", experts: Iterable[ExpertSpec], device: "DeviceConfig") -> Problems:
    """Of a family with its device."""
    name = family.device
    for key in sorted(family.model_fields_set & {"num_gpus", "num_cpus", "replicas", "autoscaling", "resources"}):
        yield (key,), f"is set by the device {name!r}; leave it out"
    if device.num_gpus and "kv_cache_gib" in family.model_fields_set:
        yield ("kv_cache_gib",), _NOT_ON_GPUS
    if device.memory_gib is None:
        if family.memory_gib is not None:
            yield ("memory_gib",), f"has no use: the device {name!r} has none, so one family at a time is awake"
    elif family.memory_gib is None:
        far = [spec.source for spec in experts if spec.kind == "checkpoint" and not PATH.match(spec.source)]
        if device.num_gpus:
            yield ("memory_gib",), f"missing; the device {name!r} has GPUs and a memory_gib to keep"
        elif far:
            yield ("memory_gib",), f"missing; how large {far[0]!r} on the hub is, is not known here"
    elif family.memory_gib > device.memory_gib:
        yield ("memory_gib",), f"got {family.memory_gib}; the device {name!r} has {device.memory_gib}"
    elif not device.num_gpus:
        images, least = family.images.device_gib, family.kv_cache_gib + family.images.host_gib
        room = family.memory_gib - least
        if room <= 0:
            message = f"got {family.memory_gib}; allowed: more than kv_cache_gib and images.host_gib, {least}"
            yield ("memory_gib",), message
        elif images is not None and images > room:
            message = f"got {images}; allowed: up to {room}, what kv_cache_gib and images.host_gib leave of memory_gib"
            yield ("images", "device_gib"), message
