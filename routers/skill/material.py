"""What skills are made of while a router is fitted: clusters of prompts, given names, or an expert's keywords.

Each kind of material offers some plans, that is ways to tag, of which cross-validation chooses one.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Protocol

import numpy as np

from routers.encoders.base import Encoder, Vectors
from routers.encoders.embedded import Embedded
from routers.skill.categories import learned
from routers.skill.model import Skills
from routers.skill.terms import common
from routers.skill.vocabulary import OUTSIDE, Indices, Tags, Vocabulary, centres, found, gathered, given, named

GRAINS = (16, 64, 256)
LEAST_CLUSTER = 8
"""Prompts that a cluster has on average at least; where a grain would be finer, it is as fine as that."""

SEVERAL = (4, 0.05), (8, 0.1)
"""Skills of a prompt in each grain at most, and the width of the kernel."""

WORDS = (0.0, 0.5)
"""Scales of the words' strengths; 0 = no words."""

CATEGORIES = (5.0, 10.0)
"""Scales of the categories' strengths: a category rests on many prompts and needs less shrinkage than a cluster."""


class Material(Protocol):
    """The fitted prompts as far as they can be tagged."""

    def skills(self, train: Indices) -> list[Skills]:
        """For each plan, the skills found from the prompts at `train` and no others. There are always as many plans."""
        ...

    def tags(self, skills: Skills, at: Indices) -> Tags:
        """The skills of the prompts at `at`."""
        ...

    def named(self, skills: Skills) -> Skills:
        """The same with names for people."""
        ...


class Clusters:
    """Skills are clusters of prompts at several grains, words, and the categories where they are known.

    x: (n, dim), the prompts' vectors. categories: (n,) or None.
    """

    def __init__(self, x: Vectors, prompts: Sequence[str], categories: Sequence[str] | None, seed: int) -> None:
        self._x, self._prompts, self._seed = x, prompts, seed
        self._categories = categories if categories is not None and len(set(categories)) > 1 else None

    def skills(self, train: Indices) -> list[Skills]:
        """See `Material.skills`."""
        x = self._x[train]
        sizes = sorted({min(size, max(len(x) // LEAST_CLUSTER, 2)) for size in GRAINS})
        grains = [centres(x, size, self._seed) for size in sizes]
        words = common([self._prompts[i] for i in train])
        categories = None if self._categories is None else learned(x, [self._categories[i] for i in train])
        return [
            Skills(
                found(x, grains, most, width),
                words if words_scale else None,
                categories,
                words_scale or 1.0,
                categories_scale,
            )
            for (most, width), words_scale, categories_scale in product(
                SEVERAL, WORDS, CATEGORIES if categories is not None else CATEGORIES[:1]
            )
        ]

    def tags(self, skills: Skills, at: Indices) -> Tags:
        """See `Material.tags`."""
        return skills.match(self._x[at], [self._prompts[i] for i in at])

    def named(self, skills: Skills) -> Skills:
        """See `Material.named`."""
        return replace(skills, vocabulary=named(skills.vocabulary, self._prompts, self._x))


class Names:
    """Skills have given names; a prompt has those that its embedding is nearest to."""

    def __init__(self, x: Vectors, prompts: Sequence[str], vocabulary: Vocabulary) -> None:
        self._x, self._prompts = x, prompts
        threshold = float(np.quantile((x @ vocabulary.vectors.T).max(axis=1), OUTSIDE))
        self._plans = [
            Skills(replace(vocabulary, threshold=threshold, most=most, width=width)) for most, width in SEVERAL
        ]

    def skills(self, train: Indices) -> list[Skills]:
        """See `Material.skills`."""
        return self._plans

    def tags(self, skills: Skills, at: Indices) -> Tags:
        """See `Material.tags`."""
        return skills.match(self._x[at], [self._prompts[i] for i in at])

    def named(self, skills: Skills) -> Skills:
        """See `Material.named`."""
        return skills


class Keywords:
    """Skills are keywords that an expert named, or given names that its keywords are near to."""

    def __init__(self, keywords: Sequence[Sequence[str]], encoder: Encoder, vocabulary: Sequence[str] | None) -> None:
        self._keywords = keywords
        self._encoder = Embedded(encoder, sorted({keyword for row in keywords for keyword in row}))
        self._given = None if vocabulary is None else given(vocabulary, encoder)

    def skills(self, train: Indices) -> list[Skills]:
        """See `Material.skills`."""
        if self._given is not None:
            return [Skills(self._given)]
        return [Skills(gathered([self._keywords[i] for i in train], self._encoder))]

    def tags(self, skills: Skills, at: Indices) -> Tags:
        """See `Material.tags`."""
        return skills.vocabulary.match_keywords([self._keywords[i] for i in at], self._encoder)

    def named(self, skills: Skills) -> Skills:
        """See `Material.named`."""
        return skills
