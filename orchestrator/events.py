"""What goes into the pipeline and what comes out of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.access.grant import EVERYTHING, Grant
from orchestrator.access.quota import Allowance
from routers.base import Route
from routers.policies.base import Wish
from routers.policies.budget import NO_BOUND, Budget
from workers.base import Delta, Failure, FinishReason, Phases, Sampling, Tools, Usage
from workers.tracing.spans import NO_SPAN, AnySpan

AUTO = "auto"
"""The model name with which the router chooses."""
READY_TIERS = ("device", "host", "disk", "remote")
"""Where the image of an expert that can answer is; any other word of `WorkerStats.tiers` says why it cannot."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the pipeline takes it.

    model: "auto", an expert, or an ensemble. prompt: what is to be answered, for aggregators; the router reads what
    `routers.ask` finds in the messages. deadline: Unix time in seconds. k: how many experts answer; None = what the
    policies say. priority: lower goes first. caller, caller_name: lineage and name of the key it came with; experts'
    queues are shared fairly among callers. grant: what that key may do. wish: what it asks of the experts; its k and
    what the key implies are added when it is routed.
    conversation: the caller's own id of it, if it gives one. user: the caller's id of its user.
    stream: the caller looks on. n: answers, all of one expert. tools: that it may call. texts: to be continued as they
    are, see workers.base.ChatCall; n is a multiple of their number, and the answers to the first one come first.
    decided: who answers, where that was decided before, as for the lines of a batch. drafted: experts whose drafts were
    made before, and counted then. draft_of: the model of the request for which this one makes a draft; it is no request
    of its own. span: of its trace.
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
    grant: Grant = EVERYTHING
    wish: Wish = field(default_factory=Wish)
    conversation: str | None = None
    user: str | None = None
    stream: bool = False
    n: int = 1
    tools: Tools | None = None
    texts: tuple[str, ...] = ()
    decided: "Routed | None" = None
    drafted: frozenset[str] = frozenset()
    draft_of: str = ""
    span: AnySpan = field(default=NO_SPAN, compare=False, repr=False)

    @property
    def is_for_one(self) -> bool:
        """Does it ask for what several experts cannot make together: a call of a tool, a form, tokens' probabilities,
        several answers, the rest of a text?"""
        asked = self.sampling
        return bool(
            self.n > 1
            or self.tools is not None
            or self.texts
            or asked.form is not None
            or asked.logprobs is not None
            or asked.logit_bias
        )


@dataclass(frozen=True, slots=True)
class Routed:
    """The decision. Always the first event.

    seconds: what it took. candidates: the experts it chose from. removed: expert -> why it is no candidate.
    notes: what the caller did not get as asked for, for people. budget: the most that the request may cost.
    writer: an expert that is no candidate and may judge and write, None for nobody. allowance: what the limits of its
    key said of the request.
    """

    request_id: str
    route: Route
    seconds: float
    candidates: tuple[str, ...]
    removed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    budget: Budget = NO_BOUND
    writer: str | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class CallMade:
    """A call of a request to an expert, and how it ended.

    role: "answer" of the one expert that was asked, "draft" of one of several, or what an aggregator wanted it for:
    "judge", "writer", "layer 1".
    seconds: from submission to end.
    usage: of one that failed or was cancelled, that of what it had said; None where none was told.
    stamp: the engine's on the output, equal to `expert` by construction; None without a whole output.
    cost: US dollars; None without usage, or where the expert's spec has no price.
    error: None, or what took the output's place: "cancelled" where it was of no more use.
    phases: where its seconds went in the engine; None without a whole output, or where the engine does not tell.
    """

    expert: str
    role: str
    seconds: float
    usage: Usage | None = None
    stamp: str | None = None
    cost: float | None = None
    error: str | None = None
    phases: Phases | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DraftText:
    """What a draft said, or had said by the time that it was of no more use."""

    expert: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of an answer.

    calls: in the order in which they began.
    winner: the expert whose words the answer is, None where it is nobody's alone.
    used, failed: experts that took part, and expert -> error of those that were asked and did not.
    votes, scores, note: see aggregators.base.Verdict.
    more: reasons of the ends of further answers, where there are several.
    drafts: of those that were asked, best seat first. They go to the caller and nowhere else.
    """

    finish_reason: FinishReason
    calls: tuple[CallMade, ...]
    winner: str | None
    used: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    votes: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    note: str = ""
    more: tuple[FinishReason, ...] = ()
    drafts: tuple[DraftText, ...] = ()

    @property
    def usage_by_expert(self) -> dict[str, Usage]:
        return usage_by_expert(self.calls)

    @property
    def usage(self) -> Usage:
        return sum(self.usage_by_expert.values(), Usage())


def usage_by_expert(calls: Iterable[CallMade]) -> dict[str, Usage]:
    """Expert -> the sum over its calls, of those that told their usage."""
    usage: dict[str, Usage] = {}
    for call in calls:
        if call.usage is not None:
            usage[call.expert] = usage.get(call.expert, Usage()) + call.usage
    return usage


PipelineEvent = Routed | Delta | Answered | Failure
