"""What users say of the answers moves a profile: a little, for a while, and never past the golden set.

An update is computed anew from all judgements that are kept and the figures as they were measured, so applying it twice
is applying it once, and what users said long ago is forgotten.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experts.profile import ALL, Golden, Judged, Opinion, Profile, Share, best_experts, share

HALF_LIFE_S = 30 * 24 * 3600.0
"""A judgement of this age, in seconds, counts half."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A user's word on one answer. score: in [0, 1]; at: Unix time in seconds; expert None: nobody's answer alone."""

    expert: str | None
    category: str | None
    score: float
    at: float


@dataclass(frozen=True, slots=True)
class Update:
    """What came of the judgements. profile: None if the update is refused. unused: judgements that say nothing of a
    measured expert and category. why: one sentence for people."""

    profile: Profile | None
    used: int
    unused: int
    why: str


def opinions(
    profile: Profile, judgements: Iterable[Judgement], now: float
) -> tuple[dict[tuple[str, str], Opinion], int]:
    """((expert, category) -> opinion with decayed counts, judgements that were of use)."""
    counts: dict[tuple[str, str], float] = {}
    totals: dict[tuple[str, str], float] = {}
    used = 0
    for judgement in judgements:
        expert = profile.experts.get(judgement.expert or "")
        category = _category(expert.categories, judgement.category) if expert else None
        if judgement.expert is None or category is None:
            continue
        used += 1
        key = judgement.expert, category
        weight = 0.5 ** (max(0.0, now - judgement.at) / HALF_LIFE_S)
        counts[key] = counts.get(key, 0.0) + weight
        totals[key] = totals.get(key, 0.0) + weight * judgement.score
    said = {key: Opinion(mean=min(1.0, totals[key] / n), n=n) for key, n in counts.items() if n > 0}
    return said, used


def update(profile: Profile, judgements: Sequence[Judgement], golden: Sequence[Judged], now: float) -> Update:
    """The profile moved by the judgements, unless its score on the golden set falls below the interval of the profile
    as it was measured. golden: the judged answers of the golden set.

    Raises ValueError where there is no golden set, or it is not the one that the profile was made with.
    """
    if profile.golden is None:
        raise ValueError(
            "the profile has no golden set to check an update with: give some questions the split 'golden' "
            "and run `coe profile` again"
        )
    if digest(golden) != profile.golden.sha256:
        raise ValueError("the golden set is not the one that the profile was made with: run `coe profile` again")
    said, used = opinions(profile, judgements, now)
    experts = {
        name: expert.model_copy(update={"feedback": {c: said[name, c] for c in expert.categories if (name, c) in said}})
        for name, expert in profile.experts.items()
    }
    new = profile.model_copy(update={"experts": experts})
    before, after = profile.golden.score, golden_score(new.quality(), golden)
    unused = len(judgements) - used
    told = f"golden score {before.mean:.3f} as measured, {after.mean:.3f} with the feedback"
    if after.mean < before.low:
        return Update(None, used, unused, f"refused: {told}, below the interval that starts at {before.low:.3f}")
    return Update(new, used, unused, f"taken: {told}, not below the interval that starts at {before.low:.3f}")


def freeze(quality: Mapping[str, Mapping[str, tuple[float, int]]], golden: Sequence[Judged]) -> Golden | None:
    """The golden set and the score on it of the quality as measured; None for an empty one."""
    if not golden:
        return None
    return Golden(
        sha256=digest(golden),
        questions=len({row.prompt_id for row in golden}),
        score=golden_score(quality, golden),
    )


def golden_score(quality: Mapping[str, Mapping[str, tuple[float, int]]], golden: Sequence[Judged]) -> Share:
    """Mean score on the golden questions when each goes to the best expert of its category that has answered it."""
    by_question: dict[str, dict[str, Judged]] = {}
    for row in golden:
        by_question.setdefault(row.prompt_id, {})[row.expert] = row
    scores: list[float] = []
    for rows in by_question.values():
        category = next(iter(rows.values())).category
        if name := next((name for name in best_experts(quality, category) if name in rows), None):
            scores.append(rows[name].score)
    return share(scores)


def digest(golden: Iterable[Judged]) -> str:
    """SHA-256 of who scored what on which golden question."""
    lines = sorted(f"{row.prompt_id}\t{row.expert}\t{row.category}\t{row.score:.6f}" for row in golden)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _category(known: Mapping[str, Share], named: str | None) -> str | None:
    """The category of a judgement in the profile's words."""
    if named in known:
        return named
    return ALL if set(known) == {ALL} else None
