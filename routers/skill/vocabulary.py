"""Skills, and which of them a text has: the nearest ones by embedding that are near enough.

A vocabulary comes from one of three places: names that the user gives; keywords that a tagger gave for the fitted
prompts; or the prompts alone, which are clustered by embedding at several grains. A cluster is a skill, and its name is
what sets its prompts' words apart from all others' (`routers.skill.names`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routers.encoders.base import Encoder, Vectors
from routers.skill.names import name_clusters

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MERGE = 0.8
"""Cosine from which two keywords are one skill."""

NEAR = 0.5
"""Cosine that a keyword and a skill have at least if the keyword means the skill."""

ITERATIONS = 12

OUTSIDE = 0.01
"""Share of the fitted prompts that may be too far from every skill to have one."""


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """The skills of n texts.

    skill: (n, width), indices of skills; strength: (n, width), not negative, 0 where a place is not used.
    """

    skill: Indices
    strength: Floats

    def __len__(self) -> int:
        return len(self.skill)

    def rows(self, indices: NDArray[np.integer]) -> "Tags":
        return Tags(self.skill[indices], self.strength[indices])

    def beside(self, other: "Tags", offset: int) -> "Tags":
        """These and the skills of `other`, with numbers raised by `offset`."""
        skill = np.concatenate([self.skill, other.skill + offset], axis=1)
        return Tags(skill, np.concatenate([self.strength, other.strength], axis=1))

    def times(self, scale: float) -> "Tags":
        """With strengths times `scale`: shrunk as if `shrinkage` were divided by its square."""
        return Tags(self.skill, scale * self.strength)


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Implements the matching of texts to skills.

    names: of the S skills, no two equal.
    vectors: (S, dim) float32, of unit length.
    grains: sizes of the groups that the skills form, from the coarse to the fine; they sum to S.
    threshold: least cosine between a text and a skill that it has.
    most: skills of a text at most, in each grain.
    width: of the kernel, in cosine: a skill that is `width` less near than the nearest counts 1/e as much.
    """

    names: tuple[str, ...]
    vectors: Vectors
    grains: tuple[int, ...]
    threshold: float
    most: int
    width: float

    def match(self, x: Vectors) -> Tags:
        """The skills of unit vectors (n, dim): in each grain the `most` nearest.

        The squares of a grain's strengths sum to 1, so that a prompt counts as one item however many skills it has; to
        0 where none is near enough.
        """
        similar = x @ self.vectors.T
        skills, strengths, start = [], [], 0
        for size in self.grains:
            here = similar[:, start : start + size]
            k = min(self.most, size)
            nearest = np.argpartition(-here, k - 1, axis=1)[:, :k]
            cosine = np.take_along_axis(here, nearest, axis=1).astype(np.float64)
            strength = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / self.width)
            strength[cosine < self.threshold] = 0
            strength /= np.maximum(np.linalg.norm(strength, axis=1, keepdims=True), 1e-12)
            skills.append(nearest + start)
            strengths.append(strength)
            start += size
        return Tags(np.concatenate(skills, axis=1), np.concatenate(strengths, axis=1))

    def match_keywords(self, keywords: Sequence[Sequence[str]], encoder: Encoder) -> Tags:
        """The skills of n texts by their keywords: the nearest one to each keyword, if near enough. All that a text has
        count the same; the squares of their strengths sum to 1."""
        distinct = sorted({keyword for row in keywords for keyword in row})
        nearest: dict[str, int] = {}
        if distinct:
            similar = encoder.encode(distinct) @ self.vectors.T
            for keyword, row in zip(distinct, similar, strict=True):
                if row.max() >= self.threshold:
                    nearest[keyword] = int(row.argmax())
        found = [list(dict.fromkeys(nearest[keyword] for keyword in row if keyword in nearest)) for row in keywords]
        width = max(map(len, found), default=0) or 1
        skill, strength = np.zeros((len(found), width), np.intp), np.zeros((len(found), width))
        for i, here in enumerate(found):
            skill[i, : len(here)] = here
            strength[i, : len(here)] = max(len(here), 1) ** -0.5
        return Tags(skill, strength)


def given(names: Sequence[str], encoder: Encoder) -> Vocabulary:
    """The vocabulary of these names, for keywords. Raises ValueError if one is empty or occurs twice."""
    if not names or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise ValueError(f"a vocabulary needs different names with a letter each; got {list(names)[:10]}")
    return Vocabulary(tuple(names), encoder.encode(names), (len(names),), NEAR, 1, 1.0)


def gathered(keywords: Sequence[Sequence[str]], encoder: Encoder, least: int = 2) -> Vocabulary:
    """The vocabulary of the keywords of n prompts: those that `least` prompts have, the most frequent first; a keyword
    that is closer than MERGE to one before it is the same skill. Raises ValueError if none is left."""
    counts = Counter(keyword for row in keywords for keyword in dict.fromkeys(row))
    frequent = sorted((keyword for keyword, n in counts.items() if n >= least), key=lambda k: (-counts[k], k))
    if not frequent:
        raise ValueError(f"no keyword was given for {least} prompts or more: there is no skill to profile")
    x = encoder.encode(frequent)
    kept: list[int] = []
    for i in range(len(frequent)):
        if not kept or (x[kept] @ x[i]).max() < MERGE:
            kept.append(i)
    return Vocabulary(tuple(frequent[i] for i in kept), x[kept], (len(kept),), NEAR, 1, 1.0)


def centres(x: Vectors, clusters: int, seed: int) -> Vectors:
    """Unit vectors (at most `clusters`, dim): the middles of clusters of unit vectors (n, dim), by k-means."""
    from sklearn.cluster import KMeans

    clusters = min(clusters, len(np.unique(x.round(4), axis=0)))
    # Started at random prompts: k-means++ takes as long as all iterations where there are hundreds of clusters.
    model = KMeans(clusters, init="random", n_init=1, max_iter=ITERATIONS, random_state=seed)
    middle = model.fit(x).cluster_centers_
    unit: Vectors = (middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return unit


def found(x: Vectors, grains: Sequence[Vectors], most: int, width: float) -> Vocabulary:
    """The vocabulary of clusters of prompts, which have numbers for names until they are `named`.

    x: (n, dim), the prompts' vectors; grains: the `centres` of each grain. The threshold is what all but one in a
    hundred of the prompts reach with their nearest skill, in every grain.
    """
    threshold = min(float(np.quantile((x @ vectors.T).max(axis=1), OUTSIDE)) for vectors in grains)
    sizes = tuple(map(len, grains))
    return Vocabulary(tuple(map(str, range(sum(sizes)))), np.concatenate(grains), sizes, threshold, most, width)


def named(vocabulary: Vocabulary, prompts: Sequence[str], x: Vectors) -> Vocabulary:
    """The same with readable names, from the words of the prompts that are nearest to each skill."""
    names: list[str] = []
    similar = x @ vocabulary.vectors.T
    for size in vocabulary.grains:
        nearest = similar[:, len(names) : len(names) + size].argmax(axis=1)
        names += name_clusters(prompts, nearest, size, set(names))
    return replace(vocabulary, names=tuple(names))
