"""What a worker does: an expert and a chat in, a stream of events out.

Everything here crosses process boundaries, so it is plain, frozen and picklable. What can go wrong in an expected way
is an event (`Failure`), never an exception: the caller learns it in order with the tokens that came before it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from experts.spec import ExpertSpec

FinishReason = Literal["stop", "length"]
FailureCode = Literal[
    "prompt_too_long",  # prompt + answer do not fit the expert's context
    "invalid_request",  # the expert cannot serve what was asked
    "expert_unavailable",  # this expert cannot answer now (no weights, not loaded); the others can
    "engine_died",  # the engine went down while the request was running
    "engine_starting",  # the engine is not up (again) yet; nothing was started, safe to submit again
    "deadline",  # the request's deadline passed
    "internal",
]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the caller asked for; None means the expert's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One chat for one expert.

    messages: OpenAI message objects whose content is text, oldest first.
    deadline: Unix time in seconds after which the answer is of no use.
    """

    request_id: str
    expert: str
    messages: tuple[dict[str, Any], ...]
    sampling: Sampling = Sampling()
    deadline: float = float("inf")


def seconds_left(call: ChatCall) -> asyncio.Timeout:
    """A block that ends with TimeoutError at the call's deadline."""
    return asyncio.timeout(None if call.deadline == float("inf") else max(0.0, call.deadline - time.time()))


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer."""

    text: str


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
class Finish:
    """The end of an answer. `expert` is the engine's stamp: the expert whose weights computed every step of it."""

    reason: FinishReason
    expert: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a request that has no (whole) answer; `message` is fit for the caller's eyes."""

    code: FailureCode
    message: str


Event = Delta | Finish | Failure


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A worker's state for health, metrics and `coe experts`.

    tiers: expert -> where its image is: "device" (an engine can compute with it), "host", "disk", "remote" or
    "failed: <why>".
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


class Engine(Protocol):
    """What a worker drives: the vLLM engine of a family, a remote model, or `workers.fake_engine.FakeEngine`."""

    async def start(self) -> None:
        """Loads every expert of the family. An expert that cannot be loaded is told in `stats`; the others serve."""
        ...

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure. Closing the generator aborts the request in the engine."""
        ...

    async def stats(self) -> WorkerStats: ...

    def is_alive(self) -> bool:
        """False once the engine cannot serve any more and must be started anew."""
        ...

    async def close(self) -> None:
        """Ends every process that `start` started."""
        ...


class EngineFactory(Protocol):
    def __call__(self, family: str, experts: Sequence[ExpertSpec]) -> Engine: ...
