"""What a user writes in coe.yaml, checked. docs/config.md lists every key; `orchestrator.config.schema` renews it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from experts.registry import Registry
from experts.spec import ExpertSpec, Frozen
from orchestrator.config import autoscaling as config_autoscaling
from orchestrator.config import checks as config_checks
from orchestrator.config.aggregation import AggregationConfig, AggregatorName, EnsembleConfig
from orchestrator.config.autoscaling import AutoscalingConfig
from orchestrator.config.batch import BatchConfig
from orchestrator.config.file import Located
from orchestrator.config.limits import Limits
from orchestrator.config.policies import Float, Int, PoliciesConfig
from orchestrator.settings import Server, check_path

Engine = Literal["vllm", "fake", "remote"]
Dtype = Literal["float32", "bfloat16", "float16", "auto"]


class SwapConfig(Frozen):
    """When an engine turns from one expert to another."""

    overhead: Float = Field(
        0.10, gt=0, lt=1, description="Share of time that swapping may take: throughput or latency."
    )
    max_wait_s: Float = Field(
        30.0, gt=0, description="Seconds that an expert with requests waits at most for its turn, where swaps allow it."
    )
    strict: bool = Field(
        False,
        description="Refuse a request (429) whose expert could not have its turn within max_wait_s because too many "
        "others wait for theirs, instead of letting it wait longer.",
    )
    pinned: tuple[str, ...] | None = Field(
        None,
        description="Experts that stay in device memory. Default: the router's fallback, or the base of "
        "one that is an adapter, if it is of this family.",
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
    replicas: Int = Field(1, ge=1, le=1000, description="Devices of the kind; each serves all of its families.")
    autoscaling: AutoscalingConfig | None = Field(
        None, description="As many devices of the kind as their load wants, in place of `replicas`."
    )
    resources: dict[str, Annotated[Float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Further resources, by Ray's names, that each takes of its node: one that only some nodes have "
        "keeps it on those.",
    )
    swap: TurnsConfig = TurnsConfig()

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most workers that there may be."""
        return config_autoscaling.bounds(self.replicas, self.autoscaling)

    @model_validator(mode="after")
    def _fits_ray(self) -> Self:
        found = list(config_checks.resource_problems(self.resources))
        found += config_autoscaling.problems(self.model_fields_set, self.autoscaling)
        if problem := config_checks.gpu_problem(self.num_gpus):
            found.append((("num_gpus",), problem))
        if found:
            raise Located(found)
        return self


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
    replicas: Int = Field(1, ge=1, le=1000, description="Workers of the family, each with an engine of its own.")
    autoscaling: AutoscalingConfig | None = Field(
        None, description="As many workers as their load wants, in place of `replicas`."
    )
    resources: dict[str, Annotated[Float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Further resources, by Ray's names, that each worker takes of its node: one that only some "
        "nodes have keeps it on those.",
    )
    device: str | None = Field(
        None, description="One of `devices`, shared with other families. Default: the family has what it needs alone."
    )
    memory_gib: Float | None = Field(
        None,
        gt=0,
        description="GiB of its device's memory that the family takes while awake. Default, on the CPU: "
        "images.device_gib, else its checkpoints' weights in `dtype`; and images.host_gib and kv_cache_gib.",
    )
    swap: SwapConfig = SwapConfig()
    images: ImagesConfig = ImagesConfig()
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,  # may hold a token
        description="Further arguments of vLLM's AsyncEngineArgs, passed on as they are. The fake engine heeds "
        "fake_slots (answers at a time), fake_token_delay (seconds before each token), fake_images (that its device "
        "holds at a time; all of them are of one byte) and fake_process (true: it has a child process, and goes down "
        "with it).",
    )

    @property
    def effective_dtype(self) -> Dtype:
        return self.dtype or ("auto" if self.num_gpus else "float32")

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most workers that there may be."""
        return config_autoscaling.bounds(self.replicas, self.autoscaling)

    @model_validator(mode="after")
    def _fits_vllm(self) -> Self:
        found = [*config_checks.family_problems(self)]
        found += config_autoscaling.problems(self.model_fields_set, self.autoscaling)
        if found:
            raise Located(found)
        return self


class RouterConfig(Frozen):
    """Who answers a request for the model `auto`."""

    kind: Literal["two-level", "fixed"] = Field(
        "two-level", description="two-level: by a fitted router, see path; fixed: always the fallback."
    )
    path: Annotated[Path, AfterValidator(lambda path: check_path(str(path)))] | None = Field(
        None,
        description="two-level: folder that `coe router fit` made, or of a two-level router alone (docs/routing.md). "
        "Default: the starter pool's, under the home folder.",
    )
    encoder: Literal["minilm", "static"] = Field(
        "minilm",
        description="two-level: how a prompt becomes a vector. minilm: all-MiniLM-L6-v2, some 10 ms on a core; static: "
        "a table distilled from it, under 1 ms, a little less exact. A router works with the one it was fitted with.",
    )
    fallback: str | None = Field(
        None,
        description="fixed: the expert that answers. two-level: the starter pool's expert for prompts of uncertain "
        "category; a router of one's own (`path`) has learned who that is. Default: smol-general, if there is one.",
    )
    experts_per_request: Int = Field(
        1, ge=1, le=8, description="Experts that answer a request; with policies.number the most that do."
    )
    aggregator: AggregatorName = Field("vote", description="How several drafts become one answer.")


class TenantConfig(Frozen):
    """What the requests of one API key have of their own."""

    experts: tuple[str, ...] | None = Field(None, min_length=1, description="Experts that it may use. Default: all.")
    router: RouterConfig | None = Field(None, description="In place of the service's router.")
    policies: PoliciesConfig | None = Field(None, description="In place of the service's policies, all of them.")


class Config(Frozen):
    """The whole coe.yaml."""

    model_config = ConfigDict(hide_input_in_errors=True)

    experts: tuple[ExpertSpec, ...] = Field((), description="The experts. None: the starter pool.")
    router: RouterConfig = RouterConfig()
    policies: PoliciesConfig = PoliciesConfig()
    tenants: dict[str, TenantConfig] = Field(
        default_factory=dict, description="Name or id of an API key -> what its requests have of their own."
    )
    aggregation: AggregationConfig = AggregationConfig()
    ensembles: dict[str, EnsembleConfig] = Field(
        default_factory=dict, description="Name -> several experts that answer as the model `ensemble/<name>`."
    )
    families: dict[str, FamilyConfig] = Field(default_factory=dict, description="Family -> how it is served.")
    devices: dict[str, DeviceConfig] = Field(
        default_factory=dict, description="Name -> a device that several families share."
    )
    limits: Limits = Limits()
    batch: BatchConfig = BatchConfig()
    server: Server = Server()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
    ] = Field("info", description="Least important messages that are logged.")

    def registry(self) -> Registry:
        return Registry(self.experts)

    def family(self, name: str) -> FamilyConfig:
        """How that family is served; where it runs is for one that shares a device the device's matter."""
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
        images = {spec.name: spec.base or spec.name for spec in self.registry().families()[family]}
        return frozenset(image for expert, image in images.items() if expert == self.router.fallback)

    def engine(self, family: str) -> Engine:
        """The engine of that family, chosen by the kind of its experts where none is named."""
        remote = self.registry().families()[family][0].kind == "remote"
        return self.family(family).engine or ("remote" if remote else "vllm")

    def routers(self) -> dict[str | None, RouterConfig]:
        """Tenant -> its own router; None -> the service's."""
        own = {name: tenant.router for name, tenant in self.tenants.items()}
        return {None: self.router} | {name: router for name, router in own.items() if router is not None}

    def with_routers(self, routers: Mapping[str | None, RouterConfig]) -> Self:
        """The same with other routers for those of `routers()`."""
        tenants = {
            name: tenant.model_copy(update={"router": routers[name]}) if name in routers else tenant
            for name, tenant in self.tenants.items()
        }
        return self.model_copy(update={"router": routers[None], "tenants": tenants})

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if found := list(config_checks.problems(self)):
            raise Located(found)
        return self
