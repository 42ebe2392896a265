"""The section `records` of coe.yaml. See docs/observing.md."""

from pydantic import Field

from experts.spec import Frozen
from orchestrator.config.policies import Float, Int


class RecordsConfig(Frozen):
    """What is kept of each routed request, for `coe explain` and `/v1/routes`."""

    keep: Int = Field(10_000, ge=1, le=10**7, description="Decision records that Redis holds; the oldest go.")
    ttl_s: Float = Field(7 * 86400.0, ge=1, le=366 * 86400, description="Seconds that one is kept.")
    content: bool = Field(
        False,
        description="Keep the text that the router read as well: `coe router export` then has prompts to fit on. "
        "Off, no word of prompt or answer is stored.",
    )
