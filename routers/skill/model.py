"""What a fitted skill router knows, and how it judges prompts. Arrays in, arrays out; numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np

from routers.encoders.base import Vectors
from routers.skill.categories import Categories
from routers.skill.profile import Profiles
from routers.skill.recruit import Weighting, relevance
from routers.skill.terms import Terms
from routers.skill.vocabulary import Floats, Tags, Vocabulary

TOLD = 3
"""Skills that an explanation names."""
LISTED = 5
"""Skills that a route lists."""
LEAST = 0.5
"""Points of a skill that is told."""

Source = Literal["encoder", "tagger"]
"""Whence a prompt's skills come: the nearest ones to its embedding, or keywords that an expert names."""


@dataclass(frozen=True, eq=False)
class Skills:
    """All skills and how a prompt is tagged with them.

    vocabulary: by embedding or keyword.
    words, categories: further skills, None = none, each with the scale of their strengths.
    """

    vocabulary: Vocabulary
    words: Terms | None = None
    categories: Categories | None = None
    words_scale: float = 0.5
    categories_scale: float = 5.0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the vocabulary, then of the words, then of the categories."""
        words = self.words.names if self.words is not None else ()
        return self.vocabulary.names + words + (self.categories.names if self.categories is not None else ())

    def match(self, x: Vectors, prompts: Sequence[str]) -> Tags:
        """The skills of n prompts and their unit vectors (n, dim)."""
        tags = self.vocabulary.match(x)
        offset = len(self.vocabulary.names)
        if self.words is not None:
            tags = tags.beside(self.words.match(prompts).times(self.words_scale), offset)
            offset += len(self.words.words)
        if self.categories is not None:
            tags = tags.beside(self.categories.match(x).times(self.categories_scale), offset)
        return tags


@dataclass(frozen=True, slots=True, eq=False)
class FittedSkills:
    """All that a skill router knows.

    slope: of the calibration: what is left of an expert's distance to its level on prompts that were not fitted.
    trimmed: experts that recruit last.
    figures: what was chosen, and seen on held-out prompts, for people.
    """

    encoder: str
    source: Source
    skills: Skills
    profiles: Profiles
    weighting: Weighting
    slope: float
    trimmed: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)

    def predict(self, tags: Tags) -> Floats:
        """The calibrated expected score (n, E) of each expert, in [0, 1]."""
        level = self.profiles.level
        expected = level + self.slope * (self.profiles.expected(tags) - level)
        return np.clip(expected, 0.0, 1.0)

    def relevance(self, predicted: Floats) -> Floats:
        """P(m|q) of what `predict` gave, see `recruit.relevance`: (n, E)."""
        return relevance(predicted, self.profiles.level, self.weighting)

    def points(self, expert: str, tags: Tags) -> dict[str, float]:
        """Skill -> points with which it speaks for `expert`, the largest first; of an expert without a profile none.
        tags: one row.
        """
        experts = self.profiles.experts
        if expert not in experts:
            return {}
        points = 100 * self.slope * tags.strength[0] * self.profiles.profile[tags.skill[0], experts.index(expert)]
        largest = np.argsort(-np.abs(points), kind="stable")[:LISTED]
        return {self.skills.names[tags.skill[0, i]]: float(points[i]) for i in largest if abs(points[i]) >= LEAST}

    def told(self, expert: str, points: Mapping[str, float], tags: Tags, predicted: Floats) -> str:
        """What speaks for `expert` on a prompt, for people.

        points: as `points` gives them; tags: one row; predicted: (E,), its row of `predict`.
        """
        experts = self.profiles.experts
        if expert not in experts:
            return f"{expert}, since no candidate has a profile"
        column = experts.index(expert)
        said = [f"{skill} {value:+.0f}" for skill, value in islice(points.items(), TOLD)]
        general = 100 * (self.profiles.level[column] - self.profiles.level.mean())
        said.append(f"in general {general:+.0f}")
        if not tags.strength.any():
            said = ["no known skill", *said]
        return (
            f"{expert}: {', '.join(said)}; expected score {100 * predicted[column]:.0f}, "
            f"the mean of {len(experts)} experts is {100 * predicted.mean():.0f}"
        )
