"""What a fitted two-level router knows, and how it judges prompts. Arrays in, arrays out; numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routers.encoders.base import Vectors
from routers.two_level.committee import Committees
from routers.two_level.second_stage import SecondStage

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Level1:
    """Prompt -> category.

    coef, intercept: (C, dim) and (C,), float32, divided by the temperature: logits = x @ coef.T + intercept.
    references: (N, dim) float32, training prompts that distances are measured to.
    entropy_threshold: of H(p) / log C; distance_threshold: of the mean cosine distance to the nearest `neighbours`.
    figures: what was seen on held-out prompts, for people.
    """

    coef: Vectors
    intercept: Vectors
    references: Vectors
    neighbours: int
    entropy_threshold: float
    distance_threshold: float
    figures: dict[str, float]

    def probabilities(self, x: Vectors) -> Floats:
        """p(category) of unit vectors (n, dim): (n, C)."""
        return softmax((x @ self.coef.T + self.intercept).astype(np.float64))


def softmax(logits: Floats) -> Floats:
    """Row by row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows: Floats = powers / powers.sum(axis=1, keepdims=True)
    return rows


def entropy(p: Floats) -> Floats:
    """H(p) / log C of each row, in [0, 1]; 0 for a single category."""
    if p.shape[1] == 1:
        return np.zeros(len(p))
    rows: Floats = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(p.shape[1])
    return rows


def distance(similar: Vectors, neighbours: int) -> Floats:
    """Mean cosine distance (n,) to the nearest references, in [0, 2]; similar: (n, N), cosines."""
    k = min(neighbours, similar.shape[1])
    nearest = np.partition(similar, -k, axis=1)[:, -k:]
    rows: Floats = 1.0 - nearest.mean(axis=1, dtype=np.float64)
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Level2:
    """Category -> experts.

    quality: (R, E), expected score in [0, 1]; rows are the categories, columns the experts.
    prior: (R,), the shares of the categories.
    first: (R,), the expert that stands first whatever its quality: planned, or the generalist; -1 = the best one.
    mixture: is a prompt's score the mean of the rows, weighted by the probabilities of the categories? Else it is that
        of the one category where the prompt was sent.
    """

    quality: Floats
    prior: Floats
    first: Indices
    mixture: bool


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Of n prompts.

    p: (n, C), probabilities of the categories; entropy, distance: (n,).
    far, unsure: (n,), which prompts go to the general category, and why.
    row: (n,), the category where a prompt was sent, as a row of level 2.
    scores: (n, E), the expected score of each expert, in [0, 1].
    """

    p: Floats
    entropy: Floats
    distance: Floats
    far: Mask
    unsure: Mask
    row: Indices
    scores: Floats


@dataclass(frozen=True, eq=False)
class Fitted:
    """All that a two-level router knows.

    categories: the classifier's, in the order of its outputs; general: may be one of them.
    experts: those with measured quality, in the order of the columns of `level2`.
    fallback: the expert of the general category, None = the best one.
    second: what refines the scores of level 2, if validation said that it helps.
    committees: who votes together, if the answers of the experts were known.
    """

    encoder: str
    categories: tuple[str, ...]
    general: str
    experts: tuple[str, ...]
    fallback: str | None
    level1: Level1
    level2: Level2
    second: SecondStage | None = None
    committees: Committees | None = None

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Categories in the order of the rows of `level2`: the general one is last if the classifier lacks it."""
        return self.categories if self.general in self.categories else (*self.categories, self.general)

    @cached_property
    def typical(self) -> Indices:
        """(E,), the experts by their mean quality, the best first: the order of equals."""
        return np.argsort(-(self.level2.prior @ self.level2.quality), kind="stable")

    def judge(self, x: Vectors, prompts: Sequence[str]) -> Judgement:
        """Of prompts and their unit vectors (n, dim)."""
        level1, level2 = self.level1, self.level2
        p = level1.probabilities(x)
        unsureness = entropy(p)
        similar = x @ level1.references.T
        away = distance(similar, level1.neighbours)
        far = away > level1.distance_threshold
        unsure = ~far & (unsureness > level1.entropy_threshold)
        row = np.where(far | unsure, self.rows.index(self.general), p.argmax(axis=1))
        if level2.mixture:
            scores = p @ level2.quality[: len(self.categories)]
            if self.second is not None:
                scores = self.second.refine(scores, p, x, similar, prompts)
            scores = np.where((far | unsure)[:, None], level2.quality[row], scores)
        else:
            scores = level2.quality[row]
        return Judgement(p, unsureness, away, far, unsure, row, np.clip(scores, 0.0, 1.0))
