"""What an aggregator does: the drafts of several experts in, one answer out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Draft:
    """One expert's output before aggregation, or why there is none.

    rank: place in the route, 0 for the best; weight: the route's weight of this expert.
    error: None, or what took the draft's place; then `text` is empty.
    """

    expert: str
    rank: int
    weight: float
    text: str = ""
    finish_reason: Literal["stop", "length"] = "stop"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the aggregated answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of an aggregated answer.

    winner: the expert whose draft the answer is, None where it is nobody's alone.
    used, failed: experts whose drafts took part, and expert -> error of those that gave none.
    votes: extracted answer -> total weight; empty where nothing was voted on.
    """

    winner: str | None
    finish_reason: Literal["stop", "length"]
    used: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    votes: dict[str, float] = field(default_factory=dict)


class NoDraft(RuntimeError):
    """Every expert of the route failed. `drafts` holds their errors in the route's order."""

    def __init__(self, drafts: tuple[Draft, ...]) -> None:
        super().__init__("; ".join(f"{draft.expert}: {draft.error}" for draft in drafts) or "no expert was asked")
        self.drafts = drafts


class Aggregator(Protocol):
    """Aggregators hold no state between requests."""

    name: str

    def aggregate(self, prompt: str, drafts: AsyncIterator[Draft]) -> AsyncIterator[Piece | Verdict]:
        """Pieces, then one Verdict. `drafts` yields as they finish; leaving it early cancels the rest.

        Raises NoDraft if all drafts are failures.
        """
        ...
