"""What a router does: a prompt in, a route out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Choice:
    """An expert of a route. Weights of a route's choices sum to 1."""

    expert: str
    weight: float


@dataclass(frozen=True, slots=True)
class Route:
    """A router's decision.

    choices: chosen experts, best first.
    category: level 1 of the two-level router; None where a router has none (or the caller named the expert).
    probabilities: category -> calibrated probability, the largest first.
    margin: probability of the best category minus that of the second, in [0, 1].
    reason: one sentence for people.
    aggregator: how the drafts become one answer; "single" for one choice.
    patience: in [0, 1], of the votes that are out, the share that the leader must outweigh for a vote in waves to end;
        1 = all, so that nothing can change the winner. See `aggregators.ballot`.
    skills: skill -> points (hundredths of a score) with which it speaks for the first choice, or against it where they
        are negative; the largest first. Empty where a router has none, or none that speaks for this choice.
    """

    choices: tuple[Choice, ...]
    reason: str
    router: str
    category: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    margin: float = 1.0
    aggregator: str = "single"
    patience: float = 1.0
    skills: dict[str, float] = field(default_factory=dict)

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(choice.expert for choice in self.choices)


class NoCandidate(ValueError):
    """No expert is left to choose from: every candidate was excluded or is unavailable."""


def distinct(candidates: Sequence[str], k: int) -> dict[str, None]:
    """The candidates as the keys of a dict, each once, in their order. Raises ValueError for k < 1, NoCandidate."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not candidates:
        raise NoCandidate("there is no expert to route to: every candidate was excluded or is unavailable")
    return dict.fromkeys(candidates)


class Router(Protocol):
    """Routers are synchronous and thread-safe; the pipeline calls them off its event loop."""

    name: str

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """Chooses k experts (fewer where there are fewer candidates) for `prompt`.

        prompt: the text to route on, usually the last user message.
        candidates: names of the experts that may answer; others are masked and the rest renormalised.
        Raises NoCandidate if `candidates` is empty.
        """
        ...

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """The same decisions as `route` for each prompt, embedded in batches."""
        ...


@runtime_checkable
class Firsts(Protocol):
    """A router that can tell in less time who answers alone, and nothing else."""

    name: str

    def first_many(self, prompts: Sequence[str], candidates: Sequence[str]) -> list[str]:
        """The first expert of `route_many(prompts, candidates)`."""
        ...
