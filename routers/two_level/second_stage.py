"""What refines the scores of a prompt beyond its category: prompts like it, a regression for each expert, and trees.

`second_stage_fit` takes them in only if they help on held-out prompts. Deciding needs numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routers.encoders import lexical
from routers.encoders.base import Vectors
from routers.two_level.trees import Trees

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Words = tuple[NDArray[np.intp], Singles]
"""The buckets of a text and their TF-IDF."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The mean residual of the nearest references, weighted by exp(cosine / temperature) and damped.

    residuals: (N, r), of the references. count: the nearest that are looked at. damping: in prompts, how many of
    residual 0 are thought to be among them.
    """

    residuals: Singles
    count: int
    temperature: float
    damping: float

    def predict(self, similar: Vectors) -> Singles:
        """Of n prompts with their cosines (n, N) to the references: (n, r)."""
        k = min(self.count, similar.shape[1])
        nearest = np.argpartition(similar, -k, axis=1)[:, -k:]
        cosines = np.take_along_axis(similar, nearest, axis=1)
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True) * (1 + self.damping / k)
        found: Singles = np.einsum("nk,nkr->nr", weights, self.residuals[nearest])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """`lexical` features as a fitted stage sees them.

    idf: (lexical.BUCKETS,), 0 for words that were seen once. mean, scale: (lexical.FORM,), of the forms.
    """

    idf: Singles
    mean: Singles
    scale: Singles

    def words(self, text: str) -> Words:
        """Buckets and their TF-IDF, a vector of length 1 (or 0 where no word is known)."""
        at, counts = lexical.buckets(text)
        weights = counts * self.idf[at]
        return at, weights / max(float(np.sqrt(weights @ weights)), 1e-9)

    def forms(self, texts: Sequence[str]) -> Singles:
        """(n, FORM), in standard deviations, at most 3."""
        return np.clip((lexical.forms(texts) - self.mean) / self.scale, -3.0, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class Regressors:
    """Kernel ridge regression of the scores, one kernel for all experts:

    kernel(a, b) = p(a) . p(b) * (2 + exp(sharpness * (cosine(a, b) - 1)) + exp(-|form(a) - form(b)|^2 / width))
                   + TF-IDF(a) . TF-IDF(b)

    So each category has functions of its own: a constant, of the topic and of the form; the words are for all.
    dual: (N, r), the coefficients of the references. words: (BUCKETS, r), the part of the TF-IDF, which is linear.
    shares: (N, C), p of the references; forms: (N, FORM).
    """

    dual: Singles
    words: Singles
    shares: Singles
    forms: Singles
    sharpness: float
    width: float

    def predict(self, p: Floats, similar: Vectors, forms: Singles, words: Sequence[Words]) -> Singles:
        """Of n prompts with p (n, C), their cosines (n, N) to the references, forms (n, FORM) and words: (n, r)."""
        alike = form_kernel(forms, self.forms, self.width)
        found: Singles = category_kernel(p, self.shares, topic_kernel(similar, self.sharpness), alike) @ self.dual
        for row, (at, tfidf) in zip(found, words, strict=True):
            row += tfidf @ self.words[at]
        return found


def category_kernel(p: Floats | Singles, shares: Singles, topics: Singles, forms: Singles) -> Singles:
    """The part of the kernel that categories have of their own."""
    kernel: Singles = (p.astype(np.float32) @ shares.T) * (2 + topics + forms)
    return kernel


def topic_kernel(similar: Vectors, sharpness: float) -> Singles:
    """exp(sharpness * (cosine - 1)): a Gaussian of the distance between unit vectors."""
    kernel: Singles = np.exp(sharpness * (similar - 1))
    return kernel


def form_kernel(a: Singles, b: Singles, width: float) -> Singles:
    """exp(-|a - b|^2 / width) of each pair of rows."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    kernel: Singles = np.exp(-np.maximum(squares, 0) / width)
    return kernel


@dataclass(frozen=True, slots=True, eq=False)
class SecondStage:
    """The scores of level 2, moved by weights towards those of regressors and trees, plus what the neighbours add.

    basis: (r, E), of the r directions that they predict to E experts: the identity where experts are few.
    means: (E,), what regressors and trees add their predictions to.
    categories: the first so many were known when it was fitted. Of others it knows nothing.
    neighbours, regressors, trees: None where they do not help; with the weight of each.
    """

    basis: Singles
    means: Singles
    looks: Looks
    categories: int
    neighbours: Neighbours | None = None
    regressors: Regressors | None = None
    trees: Trees | None = None
    neighbours_weight: float = 0.0
    regressors_weight: float = 0.0
    trees_weight: float = 0.0

    def refine(self, scores: Floats, p: Floats, x: Vectors, similar: Vectors, prompts: Sequence[str]) -> Floats:
        """Better scores (n, E); p: (n, C), x: (n, dim), unit vectors, similar: cosines (n, N) to the references."""
        known = p[:, : self.categories]
        change = np.zeros(scores.shape)
        if self.neighbours is not None:
            change += self.neighbours_weight * (self.neighbours.predict(similar) @ self.basis)
        if self.regressors is not None or self.trees is not None:
            change += self._direct(scores, known, x, similar, prompts)
        refined: Floats = scores + known.sum(axis=1)[:, None] * change
        return refined

    def _direct(self, scores: Floats, known: Floats, x: Vectors, similar: Vectors, prompts: Sequence[str]) -> Floats:
        """By how much regressors and trees, which look at the prompts themselves, change the scores (n, E)."""
        forms, change = self.looks.forms(prompts), np.zeros(scores.shape)
        if self.regressors is not None:
            words = [self.looks.words(prompt) for prompt in prompts]
            direct = self.means + self.regressors.predict(known, similar, forms, words) @ self.basis
            change += self.regressors_weight * (direct - scores)
        if self.trees is not None:
            direct = self.means + self.trees.predict(scores @ self.basis.T, x, forms) @ self.basis
            change += self.trees_weight * (direct - scores)
        return change

    def with_strangers(self, count: int) -> "SecondStage":
        """With `count` more references, of which it knows nothing."""

        def longer(rows: Singles) -> Singles:
            return np.concatenate([rows, np.zeros((count, rows.shape[1]), np.float32)])

        near, fitted = self.neighbours, self.regressors
        if near is not None:
            near = replace(near, residuals=longer(near.residuals))
        if fitted is not None:
            fitted = replace(fitted, dual=longer(fitted.dual), shares=longer(fitted.shares), forms=longer(fitted.forms))
        return replace(self, neighbours=near, regressors=fitted)
