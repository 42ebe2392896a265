"""From what users said of answers to a labelled file, which `coe router fit` takes. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Export:
    """rows: of the labelled file, docs/routing.md has its columns; a row for each prompt and expert, in the order in
    which the prompts were first rated. without_prompt, without_expert: ratings that are left out, as nobody knows what
    was asked, or as the answer was nobody's alone. without_category: prompts for which that is why no row has one."""

    rows: list[dict[str, Any]]
    without_prompt: int
    without_expert: int
    without_category: int


@dataclass(slots=True)
class _Rated:
    """category: that of the latest rating."""

    category: str | None = None
    scores: dict[str, list[float]] = field(default_factory=dict)


def labelled_rows(ratings: Sequence[Mapping[str, Any]], prompts: Mapping[str, str]) -> Export:
    """ratings: rows of /v1/feedback, oldest first. prompts: request id -> what was asked, for those that tell none.

    A prompt that was rated more than once has the mean for each expert. The category is where it was sent, and is left
    out of all rows if one has none.
    """
    rated: dict[str, _Rated] = {}
    without_prompt = without_expert = 0
    for rating in ratings:
        prompt, expert = rating.get("prompt") or prompts.get(rating["id"]), rating["expert"]
        if not prompt or not prompt.strip():
            without_prompt += 1
        elif expert is None:
            without_expert += 1
        else:
            own = rated.setdefault(prompt, _Rated())
            own.category = rating["category"]
            own.scores.setdefault(expert, []).append(rating["score"])
    without_category = sum(not own.category for own in rated.values())
    rows = [
        {
            "prompt_id": _id(prompt),
            "prompt": prompt,
            "expert": expert,
            "score": sum(scores) / len(scores),
            **({"category": own.category} if not without_category else {}),
        }
        for prompt, own in rated.items()
        for expert, scores in own.scores.items()
    ]
    return Export(rows, without_prompt, without_expert, without_category)


def _id(prompt: str) -> str:
    """The same for the same text, in every export."""
    return f"rated-{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
