"""Profiles: what each expert's score gains or loses with each skill.

Symbolic-MoE (arXiv 2503.05641, section 3.2) adds +1 or -1 to profile_m[s] for each question of skill s that expert m
gets right or wrong. Sums of such marks mix three things: how hard the skill's prompts are for everyone, how good the
expert is in general, and what it is good at; and overlapping skills count the same mark again. Here they stand apart:

    score[q, m]  ~  level[m]  +  sum over skills s of  strength[q, s] * (field[s] + profile[m, s])

level: the expert's mean; field: how much more all experts score with the skill; profile: the expert's lead over the
field. All skills are fitted together, by least squares with a penalty of some items on each entry (ridge regression):
a skill seen once says next to nothing, and two skills that always come together share one effect.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from routers.skill.vocabulary import Floats, Tags

ROUNDS = 60
TOLERANCE = 1e-3
"""Of the gradient, compared with that at zero: far below what the scores' noise does to an effect."""

ALTERNATIONS = 20
MEMORY = 500.0
"""Items that the past is worth at most when a new observation comes in: an expert that changes is followed."""


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How many items an entry must outweigh, for the field (what all experts share) and for the profiles (what sets
    them apart, which is fainter). minimum: strength-weighted items below which an entry of a profile is 0."""

    field: float
    profile: float
    minimum: float


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """What is known of E experts and S skills. Scores are in [0, 1], effects are differences of scores.

    experts: sorted.
    level: (E,), the expert's mean, as if all experts had answered the same prompts.
    field: (S,), what a skill adds to the score of every expert; profile: (S, E), what it adds to one expert's lead.
    items: (S, E), sums of squared strengths of the prompts that an entry rests on; total: (E,), numbers of prompts.
    """

    experts: tuple[str, ...]
    level: Floats
    field: Floats
    profile: Floats
    items: Floats
    total: Floats
    shrinkage: Shrinkage

    @classmethod
    def fit(cls, experts: Sequence[str], tags: Tags, skills: int, scores: Floats, shrinkage: Shrinkage) -> Self:
        """From the skills of n prompts and the scores (n, E), nan where an expert was not measured."""
        weights = (~np.isnan(scores)).astype(np.float64)
        level = levels(scores)
        over = hardness(level, scores)[:, None]
        field = ridge(tags, skills, over, weights.max(axis=1, keepdims=True), shrinkage.field)[:, 0]
        ahead = leads(level, matrix(tags, skills) @ field, scores)
        profile, items = _profile(tags, skills, ahead, weights, shrinkage)
        return cls(tuple(experts), level, field, profile, items, weights.sum(axis=0), shrinkage)

    def expected(self, tags: Tags) -> Floats:
        """The expected score (n, E) of each expert, not yet calibrated."""
        rows = [
            strength @ (self.profile[skill] + self.field[skill, None])
            for skill, strength in zip(tags.skill, tags.strength, strict=True)
        ]
        expected: Floats = self.level + np.array(rows).reshape(len(tags), len(self.experts))
        return expected

    def joined(self, expert: str, tags: Tags, scores: Floats) -> Self:
        """With one more expert, known from its scores (n,) on n prompts; the others' numbers stay as they are.

        Its level is its mean lead over what the field is expected to score on these prompts, so that it matters little
        whether they were easy or hard.
        """
        field = np.einsum("nw,nw->n", tags.strength, self.field[tags.skill])
        level = float((scores - field).mean())
        ahead = (scores - level - field)[:, None]
        profile, items = _profile(tags, len(self.field), ahead, np.ones_like(ahead), self.shrinkage)
        place = bisect(self.experts, expert)
        return replace(
            self,
            experts=(*self.experts[:place], expert, *self.experts[place:]),
            level=np.insert(self.level, place, level),
            profile=np.insert(self.profile, place, profile[:, 0], axis=1),
            items=np.insert(self.items, place, items[:, 0], axis=1),
            total=np.insert(self.total, place, len(scores)),
        )

    def observe(self, tags: Tags, expert: int, score: float) -> None:
        """Learns from one score on one prompt (`tags` has one row), in place and in constant memory.

        The step of a Kalman filter with a diagonal covariance: each entry takes the share of the surprise that its
        strength and its uncertainty, 1 / (shrinkage + items), deserve.
        """
        skill, strength = tags.skill[0], tags.strength[0]
        used = strength > 0
        skill, strength = skill[used], strength[used]
        surprise = score - float(self.level[expert] + strength @ (self.profile[skill, expert] + self.field[skill]))
        spread = 1 / (self.shrinkage.profile + np.minimum(self.items[skill, expert], MEMORY))
        alone = 1 / (1 + min(float(self.total[expert]), MEMORY))
        share = surprise / (1 + alone + float(strength**2 @ spread))
        self.level[expert] += alone * share
        self.total[expert] += 1
        self.items[skill, expert] += strength**2
        enough = self.items[skill, expert] >= self.shrinkage.minimum
        self.profile[skill, expert] += np.where(enough, strength * spread * share, 0.0)


def levels(scores: Floats) -> Floats:
    """(E,), the mean score of each expert, as if all had answered the same prompts; 0 if it was never measured.

    Where not all did (nan in scores (n, E)), an expert that answered only hard prompts must not be taken for a weak
    one: alternating least squares with the hardness of the prompts, which is worth one item of doubt.
    """
    measured = (~np.isnan(scores)).astype(np.float64)
    known = np.nan_to_num(scores)
    doubt = 0.0 if measured.all() else 1.0
    over = np.zeros(len(scores))
    level = np.zeros(scores.shape[1])
    for _ in range(ALTERNATIONS):
        level = (measured * (known - over[:, None])).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
        over = (measured * (known - level)).sum(axis=1) / np.maximum(measured.sum(axis=1) + doubt, 1)
        over -= over.mean()
    return level


def hardness(level: Floats, scores: Floats) -> Floats:
    """(n,), how far the scores (n, E) of a prompt lie over the levels, on average."""
    measured = ~np.isnan(scores)
    over: Floats = np.where(measured, scores - level, 0.0).sum(axis=1) / np.maximum(measured.sum(axis=1), 1)
    return over


def leads(level: Floats, field: Floats, scores: Floats) -> Floats:
    """(n, E), how far each score lies over the level and over what all experts gain or lose on the prompt; 0 where
    nothing was measured. field: (n,), what they are expected to gain.

    If all experts were measured, their mean tells what they gained. If few were, it tells their leads too: of n_q
    experts one share in n_q is their own, so that much of the expectation is taken instead.
    """
    measured = ~np.isnan(scores)
    count = measured.sum(axis=1)
    trust = np.where(count == scores.shape[1], 1.0, 1 - 1 / np.maximum(count, 1))
    common = field + trust * (hardness(level, scores) - field)
    return np.where(measured, scores - level - common[:, None], 0.0)


def _profile(tags: Tags, skills: int, ahead: Floats, measured: Floats, shrinkage: Shrinkage) -> tuple[Floats, Floats]:
    effects = ridge(tags, skills, ahead, measured, shrinkage.profile)
    items = matrix(Tags(tags.skill, tags.strength**2), skills).T @ measured
    return np.where(items >= shrinkage.minimum, effects, 0.0), items


def ridge(tags: Tags, skills: int, targets: Floats, weights: Floats, penalty: float | Floats) -> Floats:
    """Effects (skills, E) that minimise sum of weights * (targets - strength @ effects)^2 + penalty * effects^2.

    targets, weights: (n, E); penalty: one, or one for each column (E,).
    Conjugate gradients on the normal equations, all columns at once: nothing of the size skills x skills is ever
    formed, and every expert may have been measured on prompts of its own.
    """
    a = matrix(tags, skills)
    effects = np.zeros((skills, targets.shape[1]))
    rest = a.T @ (weights * targets)
    direction = rest.copy()
    power = (rest * rest).sum(axis=0)
    goal = TOLERANCE**2 * np.maximum(power, 1e-30)
    for _ in range(ROUNDS):
        if (power <= goal).all():
            break
        image = a.T @ (weights * (a @ direction)) + penalty * direction
        curvature = (direction * image).sum(axis=0)
        step = np.where(curvature > 0, power / np.maximum(curvature, 1e-300), 0.0)
        effects += step * direction
        rest -= step * image
        before, power = power, (rest * rest).sum(axis=0)
        direction = rest + np.where(before > 0, power / np.maximum(before, 1e-300), 0.0) * direction
    return effects


def matrix(tags: Tags, skills: int) -> Any:
    """The strengths as a sparse matrix (n, skills)."""
    from scipy import sparse

    n, width = tags.skill.shape
    rows = np.repeat(np.arange(n), width)
    return sparse.csr_array((tags.strength.ravel(), (rows, tags.skill.ravel())), shape=(n, skills))
