"""What a user writes in coe.yaml, checked. docs/config.md lists every key; `python -m orchestrator.config` renews it.

`ConfigError`   the file cannot be used; one line for each problem: file:line, the key, what was got, what is allowed
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from experts.registry import Registry, RegistryError, did_you_mean, one_of
from experts.spec import ExpertSpec, Frozen
from orchestrator.config_file import PATTERNS, Document, Loc, Located, describe, schema_at
from orchestrator.settings import SETTINGS, ConfigError, Server, Settings, absolute, check_path, given, resolve

__all__ = [
    "Config",
    "ConfigError",
    "DeviceConfig",
    "FamilyConfig",
    "Limits",
    "RouterConfig",
    "SwapConfig",
    "TurnsConfig",
    "default_config",
    "json_schema",
    "load",
    "load_config",
]

Engine = Literal["vllm", "fake", "remote"]
Dtype = Literal["float32", "bfloat16", "float16", "auto"]


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # Python would take true for 1
        raise PydanticCustomError("bool_for_number", "a number is wanted")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]

_OWN_ENGINE_ARGS = {
    "model": "the experts' own 'source' is what is loaded",
    "dtype": "set 'dtype' of the family instead",
    "max_model_len": "set 'max_model_len' of the family instead",
    "max_num_seqs": "set 'max_num_seqs' of the family instead",
    "scheduler_cls": "the service brings its own",
    "worker_cls": "the service brings its own",
    "additional_config": "the service uses it itself",
    "enable_sleep_mode": "the service sets it for families with a 'device'",
    "hf_token": "a secret does not belong in this file; set HF_TOKEN in the environment",
}


class SwapConfig(Frozen):
    """When an engine turns from one expert to another."""

    overhead: Float = Field(
        0.10, gt=0, lt=1, description="Share of time that swapping may take: throughput or latency."
    )
    max_wait_s: Float = Field(30.0, gt=0, description="Seconds that a request waits at most before its expert is next.")
    strict: bool = Field(
        False,
        description="Refuse a request (429) whose expert could not have its turn within max_wait_s because too many "
        "others wait for theirs, instead of letting it wait longer.",
    )
    pinned: tuple[str, ...] | None = Field(
        None, description="Experts that stay in device memory. Default: the router's fallback, if it is of this family."
    )


class ImagesConfig(Frozen):
    """Memory for the weights of a family's experts."""

    device_gib: Float | None = Field(
        None,
        gt=0,
        description="GiB for images that the engine can turn to at once; with GPUs in pinned host memory, from which "
        "they are copied. Default: 70 % of the host memory that is free at the start, without the KV cache.",
    )
    host_gib: Float = Field(0.0, ge=0, description="GiB for images kept in host memory beside those.")
    disk_gib: Float | None = Field(
        None, ge=0, description="GiB for image files in the home folder. Default: as many as there is room for."
    )
    image_files: bool = Field(
        False, description="Write an image file after a checkpoint was read: it loads faster than the checkpoint."
    )


class TurnsConfig(Frozen):
    """When families that do not fit a device together take turns."""

    overhead: Float = Field(0.10, gt=0, lt=1, description="Share of time that going to sleep and waking may take.")
    max_wait_s: Float = Field(
        120.0, gt=0, description="Seconds that a request waits at most before its family is next, where wakes allow it."
    )


class DeviceConfig(Frozen):
    """A device that several families share: one is awake, or as many as fit its memory; the others sleep."""

    memory_gib: Float | None = Field(
        None, gt=0, description="GiB for the families that are awake at a time. Default: one family at a time."
    )
    num_gpus: Float = Field(0.0, ge=0, description="GPUs of the device; a part of one, such as 0.5, is fine.")
    num_cpus: Float = Field(1.0, ge=0, description="CPU cores that Ray sets aside for the device's families together.")
    swap: TurnsConfig = TurnsConfig()

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if problem := _gpu_problem(self.num_gpus):
            raise Located([(("num_gpus",), problem)])
        return self


def _gpu_problem(number: float) -> str | None:
    if number > 1 and not number.is_integer():
        return f"got {number}; allowed: up to 1 any part, above 1 whole numbers"
    return None


_PATH = re.compile(r"(/|\.\.?(/|$)|~(/|$))")
"""How a folder begins; any other source of a local expert is a hub id."""
_NOT_ON_GPUS = "is for the CPU; with num_gpus above 0 set engine_args.gpu_memory_utilization"


class FamilyConfig(Frozen):
    """How the experts of one family are served."""

    engine: Engine | None = Field(
        None, description="Default: remote for remote experts, else vllm. fake answers at once with canned text."
    )
    dtype: Dtype | None = Field(
        None, description="Default: float32 on the CPU, auto (the checkpoint's own) with num_gpus above 0."
    )
    max_model_len: Int | None = Field(None, ge=1, description="Tokens of prompt and answer. Default: the checkpoint's.")
    max_num_seqs: Int = Field(16, ge=1, description="Requests that run in one batch.")
    kv_cache_gib: Int = Field(1, ge=1, description="GiB of KV cache on the CPU. With GPUs see gpu_memory_utilization.")
    num_gpus: Float = Field(0.0, ge=0, description="GPUs of the engine; a part of one, such as 0.5, is fine.")
    num_cpus: Float = Field(1.0, ge=0, description="CPU cores that Ray sets aside for the engine.")
    device: str | None = Field(
        None, description="One of `devices`, shared with other families. Default: the family has what it needs alone."
    )
    memory_gib: Float | None = Field(
        None,
        gt=0,
        description="GiB of its device's memory that the family takes while awake. Default, on the CPU: its checkpoint "
        "files and kv_cache_gib.",
    )
    swap: SwapConfig = SwapConfig()
    images: ImagesConfig = ImagesConfig()
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, passed on as they are."
    )

    @property
    def effective_dtype(self) -> Dtype:
        return self.dtype or ("auto" if self.num_gpus else "float32")

    @model_validator(mode="after")
    def _fits_vllm(self) -> Self:
        problems: list[tuple[Loc, str]] = []
        if problem := _gpu_problem(self.num_gpus):
            problems.append((("num_gpus",), problem))
        if self.num_gpus and "kv_cache_gib" in self.model_fields_set:
            problems.append((("kv_cache_gib",), _NOT_ON_GPUS))
        for key in self.engine_args:
            if not key.isidentifier():
                name = re.sub(r"\W", "_", key.lstrip("-"))
                problems.append((("engine_args", key), f"arguments are written with underscores: {name!r}"))
            elif key in _OWN_ENGINE_ARGS:
                problems.append((("engine_args", key), f"not to be set here: {_OWN_ENGINE_ARGS[key]}"))
        if problems:
            raise Located(problems)
        return self


class RouterConfig(Frozen):
    """Who answers a request for the model `auto`."""

    kind: Literal["two-level", "fixed"] = Field(
        "two-level", description="two-level: by the prompt's category; fixed: always the fallback."
    )
    path: Annotated[Path, AfterValidator(lambda path: check_path(str(path)))] | None = Field(
        None, description="two-level: folder of a fitted router. Default: the starter pool's, under the home folder."
    )
    fallback: str | None = Field(
        None, description="Expert for prompts of uncertain category. Default: smol-general, if there is one."
    )
    experts_per_request: Int = Field(1, ge=1, le=8, description="Experts that answer one request.")
    aggregator: Literal["vote"] = Field("vote", description="How several drafts become one answer.")


class Limits(Frozen):
    """What a caller may ask for."""

    body_bytes: Int = Field(1 << 20, ge=1024, description="Bytes of a request's body.")
    messages: Int = Field(256, ge=1, description="Messages of a chat.")
    max_tokens: Int = Field(8192, ge=1, description="Tokens of an answer that a caller may ask for.")
    timeout_s: Float = Field(600.0, gt=0, le=86400, description="Seconds until a request without an answer fails.")
    concurrent_requests: Int = Field(256, ge=1, description="Requests at a time; one more is turned away (429).")
    keep_alive_s: Float = Field(10.0, gt=0, le=3600, description="Seconds of silence before a stream gets a comment.")


class Config(Frozen):
    """The whole coe.yaml."""

    model_config = ConfigDict(hide_input_in_errors=True)

    experts: tuple[ExpertSpec, ...] = Field((), description="The experts. None: the starter pool.")
    router: RouterConfig = RouterConfig()
    families: dict[str, FamilyConfig] = Field(default_factory=dict, description="Family -> how it is served.")
    devices: dict[str, DeviceConfig] = Field(
        default_factory=dict, description="Name -> a device that several families share."
    )
    limits: Limits = Limits()
    server: Server = Server()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
    ] = Field("info", description="Least important messages that are logged.")

    def registry(self) -> Registry:
        return Registry(self.experts)

    def family(self, name: str) -> FamilyConfig:
        """How that family is served; GPUs and CPU cores of one that shares a device are the device's."""
        family = self.families.get(name, FamilyConfig())
        if family.device is None:
            return family
        device = self.devices[family.device]
        return family.model_copy(update={"num_gpus": device.num_gpus, "num_cpus": device.num_cpus})

    def pinned(self, family: str) -> frozenset[str]:
        """Experts of the family whose images stay in device memory."""
        named = self.family(family).swap.pinned
        if named is not None:
            return frozenset(named)
        members = {spec.name for spec in self.registry().families()[family]}
        return frozenset(members & {self.router.fallback} - {None})

    def engine(self, family: str) -> Engine:
        """The engine of that family, chosen by the kind of its experts where none is named."""
        remote = self.registry().families()[family][0].kind == "remote"
        return self.family(family).engine or ("remote" if remote else "vllm")

    def _problems_with_device(self, family: FamilyConfig, experts: Iterable[ExpertSpec]) -> Iterator[tuple[str, str]]:
        """Keys of the family that do not go with its device, and why."""
        if family.device is None:
            if family.memory_gib is not None:
                yield "memory_gib", "is for families with a 'device'; leave it out"
            return
        device = self.devices.get(family.device)
        if device is None:
            hint = did_you_mean(family.device, self.devices) or f"; devices: {', '.join(self.devices) or 'none'}"
            yield "device", f"got {family.device!r}, which is not in 'devices'{hint}"
            return
        for key in sorted(family.model_fields_set & {"num_gpus", "num_cpus"}):
            yield key, f"is set by the device {family.device!r}; leave it out"
        if device.num_gpus and "kv_cache_gib" in family.model_fields_set:
            yield "kv_cache_gib", _NOT_ON_GPUS
        if device.memory_gib is None:
            if family.memory_gib is not None:
                yield (
                    "memory_gib",
                    f"has no use: the device {family.device!r} has none, so one family at a time is awake",
                )
        elif family.memory_gib is None:
            far = [spec.source for spec in experts if spec.kind == "checkpoint" and not _PATH.match(spec.source)]
            if device.num_gpus:
                yield "memory_gib", f"missing; the device {family.device!r} has GPUs and a memory_gib to keep"
            elif far:
                yield "memory_gib", f"missing; how large {far[0]!r} on the hub is, is not known here"
        elif family.memory_gib > device.memory_gib:
            yield "memory_gib", f"got {family.memory_gib}; the device {family.device!r} has {device.memory_gib}"
        elif not device.num_gpus and family.memory_gib <= (least := family.kv_cache_gib + family.images.host_gib):
            yield "memory_gib", f"got {family.memory_gib}; allowed: more than kv_cache_gib and images.host_gib, {least}"

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        try:
            registry = self.registry()
        except RegistryError as error:
            raise Located((("experts", p.index, p.field), p.message) for p in error.problems) from None
        problems: list[tuple[Loc, str]] = []
        router, families = self.router, registry.families()
        if router.fallback is not None and router.fallback not in registry:
            message = (
                f"got {router.fallback!r}, which no expert is named{did_you_mean(router.fallback, registry.names)}"
            )
            problems.append((("router", "fallback"), message))
        if router.kind == "fixed" and router.fallback is None:
            problems.append(
                (("router", "fallback"), "missing; kind 'fixed' needs the expert that answers every prompt")
            )
        if router.kind == "fixed" and router.path is not None:
            problems.append((("router", "path"), "is for kind 'two-level', this router is of kind 'fixed'"))
        for name, family in self.families.items():
            if name not in families:
                hint = did_you_mean(name, families) or f"; families of these experts: {', '.join(families)}"
                problems.append((("families", name), f"no expert is of this family{hint}"))
                continue
            members = {spec.name: spec.kind for spec in families[name]}
            for index, pinned in enumerate(family.swap.pinned or ()):
                if members.get(pinned) != "checkpoint":
                    message = (
                        f"got {pinned!r}, which is no checkpoint expert of this family{did_you_mean(pinned, members)}"
                    )
                    problems.append((("families", name, "swap", "pinned", index), message))
            remote = families[name][0].kind == "remote"
            if family.engine == ("vllm" if remote else "remote"):
                allowed, kind = (("remote", "fake"), "remote") if remote else (("vllm", "fake"), "local")
                message = f"got {family.engine!r}, but its experts are {kind}; allowed: {one_of(allowed)}"
                problems.append((("families", name, "engine"), message))
            idle = sorted(family.model_fields_set - {"engine", "num_cpus", "max_num_seqs"}) if remote else []
            problems += [(("families", name, key), "has no meaning for remote experts; leave it out") for key in idle]
            if not remote:
                own = self._problems_with_device(family, families[name])
                problems += [(("families", name, key), message) for key, message in own]
        used = {family.device for family in self.families.values()}
        for name in self.devices:
            if name not in used:
                message = "no family is on this device; write 'device' in the sections of those that share it"
                problems.append((("devices", name), message))
            if f"device-{name}" in families:
                problems.append((("devices", name), f"a family has the name 'device-{name}'; rename one of them"))
        if problems:
            raise Located(problems)
        return self


# Loading


def default_config(home: Path) -> Config:
    """The starter pool, whose weights are under `home`, with defaults for everything else."""
    from experts.starter import GENERALIST, starter_experts

    return Config(experts=starter_experts(home), router=RouterConfig(fallback=GENERALIST))


def load_config(path: Path, home: Path | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a YAML file; paths in it are relative to its folder and come out absolute.

    home: where the starter pool is, for a file without experts; None = `server.home` of the file, else ~/.coe.
    env: where HOME is looked up for '~'.
    Raises ConfigError with every problem of the file.
    """
    document = Document(path)
    folder = path.absolute().parent
    # A section whose lines are all commented out is null in YAML; it means the defaults.
    data = {key: value for key, value in document.data.items() if value is not None or key not in Config.model_fields}
    if data.get("experts") == []:
        del data["experts"]
    try:
        config = Config.model_validate(data | ({} if "experts" in data else _starter(data, home, folder, env)))
    except ValidationError as error:
        raise ConfigError(document.lines_for(error, json_schema())) from None  # the original quotes what the file holds
    try:
        config = _with_absolute_paths(config, folder, env)
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return _with_starter_router(config, document)


def _starter(data: dict[Any, Any], home: Path | None, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    from experts.starter import starter_experts

    server = data.get("server")
    named = server.get("home") if isinstance(server, dict) else None
    if home is None:
        try:
            home = absolute(check_path(named if isinstance(named, str) else "~/.coe"), env, folder)
        except ValueError as error:
            if named is None:
                raise ConfigError([f"the default home '~/.coe': {error}, in server.home or COE_HOME"]) from None
            home = folder  # what is wrong with the name is told when the file is validated
    return {"experts": starter_experts(home)}


def _with_starter_router(config: Config, document: "Document") -> Config:
    """The starter router falls back to the generalist. Raises ConfigError if it knows none of the experts."""
    router, names = config.router, config.registry().names
    if router.kind != "two-level" or router.path is not None:
        return config
    from experts.starter import GENERALIST, starter_experts

    if not {spec.name for spec in starter_experts(Path())} & set(names):
        message = (
            "missing; without it the router is the starter pool's, which knows none of these experts. Write "
            f"'kind: fixed' and 'fallback: {names[0]}' under 'router', or the 'path' of a router fitted for them"
        )
        raise ConfigError([document.located(("router", "path"), message)])
    if router.fallback is None and GENERALIST in names:
        config = config.model_copy(update={"router": router.model_copy(update={"fallback": GENERALIST})})
    return config


def load(flags: Mapping[str, object], env: Mapping[str, str], folder: Path) -> tuple[Settings, Config]:
    """Settings and configuration, from the file that they name or from coe.yaml in `folder`, the current folder.

    Raises ConfigError.
    """
    found = folder / "coe.yaml" if os.path.lexists(folder / "coe.yaml") else None
    path = given("config", flags, env, folder=folder) or found
    config = load_config(path, given("home", flags, env, folder=folder), env) if path else None
    settings = resolve(flags, env, config, folder=folder, found=found)
    return settings, config or default_config(settings.home)


def _with_absolute_paths(config: Config, folder: Path, env: Mapping[str, str]) -> Config:
    def full(path: str | Path) -> Path:
        return absolute(Path(path), env, folder)

    experts = []
    for spec in config.experts:
        update: dict[str, Any] = {}
        if spec.kind != "remote" and _PATH.match(spec.source):
            update["source"] = str(full(spec.source))
        if spec.chat_template is not None:
            update["chat_template"] = str(full(spec.chat_template))
        experts.append(spec.model_copy(update=update))
    router, server = config.router, config.server
    if router.path is not None:
        router = router.model_copy(update={"path": full(router.path)})
    if server.home is not None:
        server = server.model_copy(update={"home": full(server.home)})
    return config.model_copy(update={"experts": tuple(experts), "router": router, "server": server})


# JSON schema and reference

_NOTES = {
    "name": "What callers write as `model`.",
    "kind": "checkpoint: weights that vLLM loads; adapter: a LoRA on a checkpoint; remote: a LangChain chat model.",
    "modalities": "What its messages may hold.",
    "tools": "Can it call tools?",
    "price": "US dollars per million tokens.",
    "tags": "For your own grouping.",
    "description": "What it is good at, for people.",
    "sampling": "Generation defaults, where the caller sets none.",
}


def json_schema() -> dict[str, Any]:
    """The JSON schema of coe.yaml, for editors."""
    schema = Config.model_json_schema()
    fields = schema["$defs"]["ExpertSpec"]["properties"]
    for name in ("parameters", "context_length"):  # pydantic does not see what the validator of a count accepts
        fields[name]["anyOf"].insert(1, {"type": "string", "pattern": list(PATTERNS)[1]})
    for name, note in _NOTES.items():
        fields[name].setdefault("description", note)
    standard: dict[str, Any] = _standard(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **standard, "title": "coe.yaml"}


_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _standard(part: Any) -> Any:
    """pydantic leaves the bounds of an optional number with a validator under names that JSON Schema does not know."""
    if isinstance(part, list):
        return [_standard(item) for item in part]
    if not isinstance(part, dict):
        return part
    number = part.get("type") in ("integer", "number")
    return {_KEYWORDS.get(key, key) if number else key: _standard(value) for key, value in part.items()}


def reference() -> dict[str, str]:
    """The generated parts of docs/config.md: name -> Markdown."""
    settings = ["| setting | flag | environment | `server:` of coe.yaml | default | |", "|---|---|---|---|---|---|"]
    for setting in SETTINGS:
        key = f"`{setting.name}`" if setting.in_yaml else "no"
        default = f"`{setting.default}`" if setting.default else "unset"
        row = (setting.name, f"`{setting.flag}`", f"`{setting.env}`", key, default, setting.summary)
        settings.append(f"| {' | '.join(row)} |")
    schema = json_schema()
    tables: list[str] = []
    _table(schema, schema_at(schema, ()), "", tables)
    return {"settings": "\n".join(settings), "keys": "\n\n".join(tables)}


def _table(schema: dict[str, Any], part: dict[str, Any], prefix: str, tables: list[str]) -> None:
    lines = ["| key | allowed | default | |", "|---|---|---|---|"]
    inner: list[tuple[str, dict[str, Any]]] = []
    for name in part["properties"]:
        value = schema_at({"$defs": schema["$defs"], **part}, (name,))
        key = prefix + name
        default = "required" if name in part.get("required", ()) else ""
        for step, suffix in (((), ""), (("*",), ".<name>"), ((0,), "[]")):
            below = schema_at({"$defs": schema["$defs"], **value}, step)
            if "properties" in below:
                inner.append((key + suffix, below))
                allowed = f"see `{key + suffix}`"
                break
        else:
            allowed = describe(schema, value)
            if value.get("default") not in (None, ""):
                default = f"`{json.dumps(value['default'])}`"
        lines.append(f"| `{key}` | {allowed} | {default} | {value.get('description', '')} |")
    tables.append((f"### `{prefix.removesuffix('.')}`\n\n" if prefix else "") + "\n".join(lines))
    for key, below in inner:
        _table(schema, below, key + ".", tables)


def written(docs: Path) -> dict[Path, str]:
    """The files under `docs` that are made from this module, as they should be."""
    page = docs / "config.md"
    text = page.read_text(encoding="utf-8")
    for name, markdown in reference().items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, new=f"{begin}\n{markdown}\n{end}": new, text, flags=re.DOTALL)  # type: ignore[misc]
    return {page: text, docs / "coe.schema.json": json.dumps(json_schema(), indent=2) + "\n"}


if __name__ == "__main__":
    for made, content in written(Path(__file__).parent.parent / "docs").items():
        made.write_text(content, encoding="utf-8")
        print(made)
