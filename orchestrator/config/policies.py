"""The policies of coe.yaml, which docs/policies.md tells how to use."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from experts.spec import Frozen


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # Python would take true for 1
        raise PydanticCustomError("bool_for_number", "a number is wanted")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]


class NumberConfig(Frozen):
    """How many of `router.experts_per_request` experts answer a request that does not say so itself."""

    top_p: Float | None = Field(
        None, gt=0, le=1, description="As few as have this share of probability together. Default: all."
    )
    skip_second: Float | None = Field(
        None, ge=0, le=1, description="One, if the second's probability is below this share of the first's."
    )
    mean: Float | None = Field(
        None,
        ge=1,
        description="So many on average over requests: several where experts are nearly equal. Instead of the others.",
    )
    sharpness: Float = Field(
        2.0, gt=0, description="An expert's probability is its share of expected score ^ sharpness."
    )


class ConversationConfig(Frozen):
    """Whether a conversation keeps its expert."""

    margin: Float | None = Field(
        None,
        ge=0,
        le=1,
        description="Expected score by which another expert must be better to take over. Default: none, each turn is "
        "routed anew.",
    )
    ttl_s: Float = Field(3600.0, gt=0, description="Seconds after which a conversation that was quiet is forgotten.")
    memory: Literal["redis", "process"] = Field(
        "redis", description="Where it is remembered: for all gateways, or in this process alone, without Redis."
    )


class PoliciesConfig(Frozen):
    """What is decided around the router."""

    language: bool = Field(
        True, description="Leave out experts whose `languages` lack that of the prompt, where it can be told."
    )
    load_price: Float = Field(
        0.0, ge=0, description="Expected score that a second of loading is worth: an expert that is there may go first."
    )
    number: NumberConfig = NumberConfig()
    conversation: ConversationConfig = ConversationConfig()
