"""What is known of each expert: how often it is right and where, how long it takes, what it costs.

A profile is made from judged answers (`measure`), written as profile.json, and moved a little by what users say of the
answers (`experts.profile_feedback`). Everything here is pure; `orchestrator.profile.run` asks the experts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experts.spec import Frozen, Price

ALL = "all"
"""The one category of questions that name none."""
GOLDEN = "golden"
"""The split of questions that are kept apart: no figure of an expert is made from them, and they judge every update."""
Z = 1.96
"""Standard normal quantile of a two-sided 95 % interval."""

MOST_WEIGHT = 0.5
"""Users' judgements together weigh at most this much of the questions that were measured."""
LARGEST_STEP = 0.1
"""The farthest that judgements move a mean score from where it was measured."""

Labels = Literal["gold", "consensus"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer of one expert, judged.

    score: in [0, 1], a probability where nobody knows the right answer.
    failure: the code of an expected failure (the prompt is too long, say), which is scored 0. seconds,
    first_token_seconds: from the question to the end and to the first token of the answer, in the company of the run's
    other questions.
    """

    prompt_id: str
    expert: str
    score: float
    category: str = ALL
    skills: tuple[str, ...] = ()
    golden: bool = False
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None


class Share(Frozen):
    """A mean score of n questions with its 95 % Wilson interval."""

    mean: float = Field(ge=0, le=1)
    n: int = Field(ge=0)
    low: float
    high: float


class Opinion(Frozen):
    """What users say of an expert in a category: mean score in [0, 1] and decayed count of their judgements."""

    mean: float = Field(ge=0, le=1)
    n: float = Field(ge=0)


class Seconds(Frozen):
    """Quantiles of a duration in seconds."""

    p50: float
    p95: float


class ExpertProfile(Frozen):
    """One expert's figures.

    failed: answers that ended in an expected failure. prompt_tokens, completion_tokens: means of an answer. load:
    seconds to bring its weights to the device, None where that was not seen. cost: mean US dollars of an answer, None
    without a price. feedback: category -> what users said since.
    """

    overall: Share
    categories: dict[str, Share]
    skills: dict[str, Share] = Field(default_factory=dict)
    failed: int = 0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    latency: Seconds
    first_token: Seconds | None = None
    load: float | None = None
    price: Price | None = None
    cost: float | None = None
    feedback: dict[str, Opinion] = Field(default_factory=dict)


class Golden(Frozen):
    """The frozen golden set: its digest, and what the profile scored on it as it was measured."""

    sha256: str
    questions: int
    score: Share


class Aggregation(Frozen):
    """What experts made of tasks with one right and two wrong drafts.

    writing, judging: category -> expert -> how often its answer was right, and how often it found the right draft.
    weights: category -> dimension of the judge's rubric -> its weight, fitted to the judgements.
    """

    writing: dict[str, dict[str, Share]]
    judging: dict[str, dict[str, Share]]
    weights: dict[str, dict[str, float]] = Field(default_factory=dict)


class Profile(Frozen):
    """All experts of a run. labels: "gold", or "consensus" where the experts' agreement stands for the right answers.

    concurrent: questions that were asked at a time, which latency depends on. aggregation: who judges and writes,
    None where that was not measured, see `experts.profile_aggregation`.
    """

    format: Literal[1] = 1
    labels: Labels
    questions: int
    concurrent: int
    experts: dict[str, ExpertProfile]
    golden: Golden | None = None
    aggregation: Aggregation | None = None

    def quality(self, feedback: bool = True) -> dict[str, dict[str, tuple[float, int]]]:
        """Category -> expert -> (mean score, questions), as `TwoLevelRouter.fit` takes it; with feedback or not."""
        table: dict[str, dict[str, tuple[float, int]]] = {}
        for name, expert in self.experts.items():
            for category, measured in expert.categories.items():
                said = expert.feedback.get(category) if feedback else None
                table.setdefault(category, {})[name] = (round(moved(measured, said), 4), measured.n)
        return {category: table[category] for category in sorted(table)}


def share(scores: Sequence[float]) -> Share:
    """Mean of scores in [0, 1], with its interval."""
    mean = _mean(scores)
    low, high = wilson(mean, len(scores))
    return Share(mean=round(mean, 6), n=len(scores), low=round(low, 6), high=round(high, 6))


def wilson(mean: float, n: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927); (0, 1) for n = 0. With scores inside (0, 1) it is too wide."""
    if n <= 0:
        return 0.0, 1.0
    centre = mean + z * z / (2 * n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def moved(measured: Share, said: Opinion | None) -> float:
    """The mean score with what users said: a weighted mean, bounded by MOST_WEIGHT and LARGEST_STEP."""
    if said is None or not said.n or not measured.n:
        return measured.mean
    n = min(said.n, MOST_WEIGHT * measured.n)
    mean = (measured.mean * measured.n + said.mean * n) / (measured.n + n)
    return min(max(mean, measured.mean - LARGEST_STEP), measured.mean + LARGEST_STEP)


def measure(rows: Iterable[Judged], price: Price | None, load: float | None) -> ExpertProfile:
    """The figures of the one expert that all `rows` are of. Raises ValueError if none is outside the golden set."""
    own = [row for row in rows if not row.golden]
    if not own:
        raise ValueError("no answer to make a profile from")
    by_category: dict[str, list[Judged]] = {}
    by_skill: dict[str, list[Judged]] = {}
    for row in own:
        by_category.setdefault(row.category, []).append(row)
        for skill in row.skills:
            by_skill.setdefault(skill, []).append(row)
    answered = [row for row in own if row.failure is None]
    return ExpertProfile(
        overall=_share_of(own),
        categories={name: _share_of(by_category[name]) for name in sorted(by_category)},
        skills={name: _share_of(by_skill[name]) for name in sorted(by_skill)},
        failed=len(own) - len(answered),
        prompt_tokens=_mean([row.prompt_tokens for row in answered]),
        completion_tokens=_mean([row.completion_tokens for row in answered]),
        latency=_seconds([row.seconds for row in answered]) or Seconds(p50=0.0, p95=0.0),
        first_token=_seconds([r.first_token_seconds for r in answered if r.first_token_seconds is not None]),
        load=load,
        price=price,
        cost=None if price is None else _mean([cost(row, price) for row in answered]),
    )


def cost(row: Judged, price: Price) -> float:
    """US dollars of one answer."""
    return (row.prompt_tokens * price.input + row.completion_tokens * price.output) / 1e6


def matrix(rows: Iterable[Judged], prompt_ids: Sequence[str], experts: Sequence[str]) -> NDArray[np.float64]:
    """Scores, (prompts, experts) float64; nan where an expert has not answered."""
    where = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    column = {name: index for index, name in enumerate(experts)}
    scores = np.full((len(prompt_ids), len(experts)), np.nan)
    for row in rows:
        if row.prompt_id in where and row.expert in column:
            scores[where[row.prompt_id], column[row.expert]] = row.score
    return scores


def best_experts(quality: Mapping[str, Mapping[str, tuple[float, int]]], category: str) -> list[str]:
    """The experts that were measured in a category, best first; of equals the first by name."""
    known = quality.get(category, {})
    return sorted(known, key=lambda name: (-known[name][0], name))


def _share_of(rows: Sequence[Judged]) -> Share:
    return share([row.score for row in rows])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _seconds(values: Sequence[float]) -> Seconds | None:
    if not values:
        return None
    p50, p95 = np.quantile(values, [0.5, 0.95])
    return Seconds(p50=round(float(p50), 6), p95=round(float(p95), 6))
