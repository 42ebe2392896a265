"""How many workers a family has, where the load decides: the bounds that coe.yaml gives, in Ray Serve's own words."""

from typing import Self

from pydantic import Field, model_validator

from experts.spec import Frozen
from orchestrator.config.file import Located, Problems
from orchestrator.config.policies import Float, Int


class AutoscalingConfig(Frozen):
    """In place of `replicas`: workers come and go with the queue times of their experts (docs/placement.md)."""

    min_replicas: Int = Field(1, ge=1, le=1000, description="Workers that there are at least.")
    max_replicas: Int = Field(..., ge=1, le=1000, description="Workers that there are at most.")
    queue_s: Float = Field(
        10.0,
        gt=0,
        description="Queue time to keep to: seconds until a call has its first token, or until a paused expert has its "
        "turn again. Loads and the reading of the prompt are part of it.",
    )
    busy: Float = Field(
        0.7,
        gt=0,
        le=1,
        description="Share of max_num_seqs that calls may take on each worker once there is one fewer of them.",
    )
    upscale_delay_s: Float = Field(
        30.0, ge=0, description="Seconds for which an expert's queue time must be above queue_s."
    )
    downscale_delay_s: Float = Field(600.0, ge=0, description="Seconds for which one worker fewer must be enough.")
    look_back_period_s: Float = Field(
        30.0, ge=5, description="Seconds over which calls and tokens of workers are measured."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_replicas > self.max_replicas:
            message = f"got {self.min_replicas}; allowed: up to max_replicas, {self.max_replicas}"
            raise Located([(("min_replicas",), message)])
        return self


def bounds(replicas: int, own: AutoscalingConfig | None) -> tuple[int, int]:
    """The least and the most workers that there may be."""
    return (replicas, replicas) if own is None else (own.min_replicas, own.max_replicas)


def problems(told: frozenset[str] | set[str], own: AutoscalingConfig | None) -> Problems:
    """Of a family or a device. told: the keys that it gives."""
    if own is not None and "replicas" in told:
        yield ("replicas",), "does not go with 'autoscaling', which has min_replicas and max_replicas; leave one out"
