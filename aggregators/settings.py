"""What can be set of the aggregators. docs/aggregation.md has the same as a user writes it in coe.yaml."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aggregators.rubric import DEFAULT, Rubric

Role = Literal["judge", "writer"]
Choose = Callable[[Role, str | None, Sequence[str]], str]
"""(role, category, candidates) -> the expert for it. Candidates are never empty, the route's best first."""

MAX_LAYERS = 3
LEAST_SEATS = {"single": 1, "vote": 3}
"""Drafts that an aggregator needs to be of use, if not two: of two votes the heavier one always wins."""


@dataclass(frozen=True, slots=True)
class Settings:
    """expert: who judges and writes, where it may be asked; None = whom `Choose` finds best.

    prompts: in place of those of `aggregators.prompts`, by name. rubrics: category -> what is judged there; `rubric`
    for the rest. reserve_s: seconds kept of the request's time for each stage after the drafts; None = see
    `aggregators.stages`. draft_characters: of a draft that a prompt shows at most. judge_tokens: that
    a judge may say; None = what the reply needs, more is for judges that think first.
    stream_first: of `single`. waves: of `vote`. is_pairwise: judges compare two drafts at a time. layers, end: of
    `refine`. first, otherwise: of `cascade`.
    """

    expert: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    rubric: Rubric = DEFAULT
    rubrics: Mapping[str, Rubric] = field(default_factory=dict)
    reserve_s: float | None = None
    draft_characters: int = 6000
    judge_tokens: int | None = None
    stream_first: bool = True
    waves: bool = False
    is_pairwise: bool = False
    layers: int = 1
    end: Literal["synthesize", "vote", "judge"] = "synthesize"
    first: Literal["vote", "judge"] = "vote"
    otherwise: Literal["judge", "synthesize", "refine"] = "judge"


def best_seat(role: Role, category: str | None, candidates: Sequence[str]) -> str:
    """The `Choose` where nothing is known of who judges and writes well."""
    return candidates[0]
