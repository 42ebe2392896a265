"""What goes into the pipeline and what comes out of it."""

from dataclasses import dataclass, field
from typing import Any

from routers.base import Route
from routers.policies.base import Wish
from routers.policies.budget import NO_BOUND, Budget
from workers.base import Delta, Failure, FinishReason, Sampling, Usage

AUTO = "auto"
"""The model name with which the router chooses."""
READY_TIERS = ("device", "host", "disk", "remote")
"""Where the image of an expert that can answer is; any other word of `WorkerStats.tiers` says why it cannot."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the pipeline takes it.

    model: "auto", an expert, or an ensemble. prompt: what the drafts answer, for aggregators; the router reads what
    `routers.ask` finds in the messages. deadline: Unix time in seconds. k: how many experts answer; None = what the
    policies say. priority: lower goes first. caller, caller_name: id and name of the key it came with; experts' queues
    are shared fairly among callers. wish: what it asks of the experts; its k and what the key implies are added when it
    is routed.
    conversation: the caller's own id of it, if it gives one. user: the caller's id of its user.
    """

    request_id: str
    model: str
    messages: tuple[dict[str, Any], ...]
    prompt: str
    deadline: float
    sampling: Sampling = field(default_factory=Sampling)
    k: int | None = None
    aggregator: str | None = None
    priority: int = 0
    caller: str = ""
    caller_name: str = ""
    wish: Wish = field(default_factory=Wish)
    conversation: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """The decision. Always the first event.

    seconds: what it took. candidates: the experts it chose from. removed: expert -> why it is no candidate.
    notes: what the caller did not get as asked for, for people. budget: the most that the request may cost.
    """

    request_id: str
    route: Route
    seconds: float
    candidates: tuple[str, ...]
    removed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    budget: Budget = NO_BOUND


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of an answer.

    winner: the expert whose words the answer is, None where it is nobody's alone.
    used, failed: experts that took part, and expert -> error of those that were asked and did not.
    stamps: expert -> the engine's stamp on its output, equal by construction. votes: see aggregators.base.Verdict.
    """

    finish_reason: FinishReason
    usage_by_expert: dict[str, Usage]
    stamps: dict[str, str]
    winner: str | None
    used: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    votes: dict[str, float] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        return sum(self.usage_by_expert.values(), Usage())


PipelineEvent = Routed | Delta | Answered | Failure
