"""What a fitted two-level router knows, and how it judges prompts. Arrays in, arrays out; numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from routers.encoders.base import Vectors
from routers.two_level.committee import Committees
from routers.two_level.level1 import Floats, Indices, Level1, Mask, entropy, strangers
from routers.two_level.second_stage import SecondStage

TRUST_IF_FAR = 0.5
"""Of a router that was fitted on labels: the weight of what its categories say of a far prompt; the rest is the general
category's. Some far prompts are strangers, some only rare, and for those the categories know better."""


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
    far, unsure: (n,), which prompts are strangers, and why.
    general: (n,), the strangers on whom the general category has a say. A mean of rows hedges unsure prompts by itself.
    row: (n,), the category that decides, as a row of level 2.
    scores: (n, E), the expected score of each expert, in [0, 1].
    """

    p: Floats
    entropy: Floats
    distance: Floats
    far: Mask
    unsure: Mask
    general: Mask
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
        unsureness, away = entropy(p), level1.distances(x, prompts)
        far, unsure = strangers(unsureness, away, level1.entropy, level1.distance)
        general = far if level2.mixture else far | unsure
        row = np.where(general, self.rows.index(self.general), p.argmax(axis=1))
        if level2.mixture:
            scores = p @ level2.quality[: len(self.categories)]
            if self.second is not None:
                scores = self.second.refine(scores, p, x, x @ level1.references.T, prompts)
            trust = np.where(far, TRUST_IF_FAR, 1.0)[:, None]
            scores = trust * scores + (1 - trust) * level2.quality[self.rows.index(self.general)]
        else:
            scores = level2.quality[row]
        return Judgement(p, unsureness, away, far, unsure, general, row, np.clip(scores, 0.0, 1.0))
