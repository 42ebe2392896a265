"""What a worker does: an expert and a chat in, a stream of events out.

Everything here crosses process boundaries, so it is plain, frozen and picklable. What can go wrong in an expected way
is an event (`Failure`), never an exception: the caller learns it in order with the tokens that came before it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from experts.spec import ExpertSpec

FinishReason = Literal["stop", "length", "tool_calls"]
FailureCode = Literal[
    "prompt_too_long",  # prompt + answer do not fit the expert's context
    "invalid_request",  # the expert cannot serve what was asked
    "expert_unavailable",  # this expert cannot answer now (no weights, not loaded); the others can
    "engine_died",  # the engine went down while the request was running
    "engine_starting",  # the engine is not up (again) yet; nothing was started, safe to submit again
    "overloaded",  # so many experts wait that the bound on waiting could not be kept; nothing was started
    "deadline",  # the request's deadline passed
    "internal",
]


@dataclass(frozen=True, slots=True)
class Form:
    """What the whole answer must be: JSON after this schema, as text; any JSON object without one."""

    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the caller asked for; None means the expert's own default.

    logit_bias: (token id, what is added to its logit). logprobs: of each token, with those of so many others; None for
    none.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """Functions that an expert may call: OpenAI's function objects (name, description, parameters).

    choice: "auto", the expert decides; "required", at least one call; "none", no call. name: the one that it must call.
    parallel: more than one call is allowed.
    """

    functions: tuple[dict[str, Any], ...]
    choice: Literal["auto", "required", "none"] = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One chat for one expert.

    messages: OpenAI message objects whose content is text, oldest first; an assistant's may have `tool_calls`, and a
    tool's `tool_call_id`. text: to be continued as it is, without the chat template; messages hold it once more.
    deadline: Unix time in seconds after which the answer is of no use. every: seconds for which what it says may be
    collected before it is sent, 0 for who looks on.
    priority: lower goes first, as in vLLM; caller: whose request it is, for a fair share among callers.
    beside: experts whose drafts of the same request are under way. trace: the W3C traceparent of the call's span, ""
    for none.
    """

    request_id: str
    expert: str
    messages: tuple[dict[str, Any], ...]
    sampling: Sampling = Sampling()
    deadline: float = float("inf")
    priority: int = 0
    caller: str = ""
    tools: Tools | None = None
    text: str | None = None
    every: float = 0.0
    beside: tuple[str, ...] = ()
    trace: str = field(default="", compare=False)


def seconds_left(call: ChatCall) -> asyncio.Timeout:
    """A block that ends with TimeoutError at the call's deadline."""
    return asyncio.timeout(None if call.deadline == float("inf") else max(0.0, call.deadline - time.time()))


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token with its natural logarithm of probability. raw: its bytes, which may be a part of a character."""

    token: str
    logprob: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token of the answer, and the likeliest ones in its place, the first of them first."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class CallPart:
    """A piece of a tool call. index: which of the answer's calls. The first piece has id and name, the arguments, which
    are JSON when all are joined, come in any number of pieces."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer.

    usage: of the call so far, in case it is broken off; None if the engine does not know. calls: pieces of tool calls.
    logprobs: of tokens that have come, not always those of this very text. choice: which of several answers.
    """

    text: str = ""
    usage: Usage | None = field(default=None, compare=False)
    calls: tuple[CallPart, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    choice: int = 0

    def in_utf8(self) -> "Delta":
        """Itself with U+FFFD for half of a surrogate pair, which a remote model's JSON may hold and UTF-8 cannot."""
        if self.text.isascii() and not self.calls:
            return self
        return replace(self, text=_in_utf8(self.text), calls=tuple(map(_call_in_utf8, self.calls)))


def _call_in_utf8(part: CallPart) -> CallPart:
    name = None if part.name is None else _in_utf8(part.name)
    return replace(part, arguments=_in_utf8(part.arguments), name=name)


def _in_utf8(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class Phases:
    """Where a call's seconds went in its engine.

    queue: before its first step. swap: in swaps that it took part in. prefill: from the first step to the first token;
    decode: from there to the end; both without swaps. Of a remote model, whose queue nobody sees, that is in prefill.
    """

    queue: float = 0.0
    swap: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer. `expert` is the engine's stamp: the expert whose weights computed every step of it.

    phases: None where the engine does not tell.
    """

    reason: FinishReason
    expert: str
    usage: Usage
    phases: Phases | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a request that has no (whole) answer; `message` is fit for the caller's eyes."""

    code: FailureCode
    message: str


Event = Delta | Finish | Failure


@dataclass(frozen=True, slots=True)
class SwapEvent:
    """What happened to an image, for people: a line of the worker's event log, which keeps the last some hundred.

    number: counts up in one log, an engine's begins anew with it; at: Unix time in seconds at its end; kind: "swap" (it
    is computed with from now on), "loaded", "evicted", "cancelled", "failed" or "note" (no image file was written), and
    of a family on a shared device, which is the image then, "woke" and "slept"; source, target: tiers; bytes: moved.
    """

    number: int
    at: float
    kind: str
    image: str
    source: str
    target: str
    bytes: int
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A worker's state for health, metrics and `coe experts`.

    tiers: expert -> where its image is: "device" (an engine can compute with it), "host", "disk", "remote" or
    "failed: <why>".
    Counts and sums since the engine's start: loads, moved_bytes and moved_seconds by the tier that an image came from;
    prefetched: loads that began while another expert computed, and prefetch_used: those whose image was then computed
    with before it was evicted; swap_hits: swaps to an image that was on the device when its request came.
    tier_bytes: memory held in each tier; shared tensors count once. room_bytes: what each tier may hold at most.
    image_bytes: expert -> bytes of its image, or of an adapter's own weights; estimated until it was read.
    busy_seconds: in which the engine computed. oldest_wait: seconds, of an expert with requests.
    request_seconds: of finished requests, by where they went: queue, swap, execute, paused.
    wakes, wake_seconds: of a family that shares its device; with the time in which others went to sleep for it.
    spans_lost: of the worker's process, since its start; families that share a device share that.
    roster: the version of the `Roster` that it serves; "" while it goes over to another one.
    workers: whose stats these are together, with what those that are gone have counted, see `channel.together.Totals`;
    workers_wanted: that Serve wants by now, 0 = not known.
    """

    family: str
    tiers: dict[str, str]
    active: str | None = None
    running: int = 0
    waiting: int = 0
    swaps: int = 0
    swap_seconds: float = 0.0
    restarts: int = 0
    queued_by_expert: dict[str, int] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)
    moved_bytes: dict[str, int] = field(default_factory=dict)
    moved_seconds: dict[str, float] = field(default_factory=dict)
    tier_bytes: dict[str, int] = field(default_factory=dict)
    room_bytes: dict[str, int] = field(default_factory=dict)
    image_bytes: dict[str, int] = field(default_factory=dict)
    busy_seconds: float = 0.0
    swap_hits: int = 0
    prefetched: int = 0
    prefetch_used: int = 0
    oldest_wait: float = 0.0
    request_seconds: dict[str, float] = field(default_factory=dict)
    wakes: int = 0
    wake_seconds: float = 0.0
    spans_lost: int = 0
    events: tuple[SwapEvent, ...] = ()
    roster: str = ""
    workers: int = 1
    workers_wanted: int = 0


@dataclass(frozen=True, slots=True)
class Roster:
    """Whom a family's worker serves, which may change while it runs. pinned: experts whose images stay on the device.
    version: differs between rosters that differ; told back in `WorkerStats.roster`."""

    experts: tuple[ExpertSpec, ...]
    pinned: frozenset[str] = frozenset()
    version: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.experts)

    @property
    def images(self) -> dict[str, str]:
        """Expert -> the expert whose image computes it."""
        return {spec.name: spec.base or spec.name for spec in self.experts}


class Engine(Protocol):
    """What a worker drives: the vLLM engine of a family, a remote model, or `workers.fake_engine.FakeEngine`."""

    async def start(self) -> None:
        """Loads every expert of the family. An expert that cannot be loaded is told in `stats`; the others serve."""
        ...

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure. Closing the generator aborts the request in the engine."""
        ...

    async def stats(self) -> WorkerStats: ...

    async def adopt(self, experts: Sequence[ExpertSpec], pinned: frozenset[str] = frozenset()) -> None:
        """These are the family's experts from now on. Calls that are under way end as they began, each with the weights
        that it began with; those that come once this returns meet the new ones, and "expert_unavailable" for an expert
        that is gone. An expert that cannot be served is told in `stats`; the others go on. One call at a time."""
        ...

    def is_alive(self) -> bool:
        """False once the engine cannot serve any more and must be started anew."""
        ...

    async def close(self) -> None:
        """Ends every process that `start` started."""
        ...


class SleepingEngine(Engine, Protocol):
    """An engine that can share its device with engines of other families, see `workers.families`."""

    @property
    def keeps_requests(self) -> bool:
        """Do requests under way survive a sleep? If not, it is put to sleep only while there are none."""
        ...

    async def sleep(self) -> Literal["host", "disk"]:
        """Gives its device memory back until `wake`, and tells where its weights are meanwhile."""
        ...

    async def wake(self) -> None:
        """After `sleep`. If it raises, the engine is to be closed."""
        ...


class EngineFactory(Protocol):
    def __call__(self, family: str, experts: Sequence[ExpertSpec]) -> Engine: ...
