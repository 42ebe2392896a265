"""Level 1 of a fitted two-level router: prompt -> category, and whether a prompt is known at all. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from routers.encoders.base import Vectors
from routers.encoders.style import styles

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

CLIP = 5.0
"""Standard deviations beyond which a value of a style is as odd as any."""


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Where training prompts lie: a Gaussian for each category, all with one covariance (Lee et al., arXiv 1807.03888).

    It sees a vector and a style (`routers.encoders.style`), so that what is asked and how it is written both count.
    style_mean, style_scale: (STYLE,). whiten: (D, D), D = dim + STYLE, to coordinates in which squared distances are
        those of Mahalanobis, divided by D: on average a training prompt is 1 from its centre.
    centres: (G, D), in these coordinates; of the categories and of the prompts that have none. reach: (G,), what
        distances to a centre are divided by: 1, but for categories that came later and are wider.
    """

    style_mean: Vectors
    style_scale: Vectors
    whiten: Vectors
    centres: Vectors
    reach: Vectors

    def distance(self, x: Vectors, looks: Vectors) -> Floats:
        """Squared, to the nearest centre (n,); x: (n, dim), unit vectors; looks: (n, STYLE), styles."""
        points, centres = self._whitened(x, looks), self.centres
        own = np.einsum("nd,nd->n", points, points)
        squares = own[:, None] - 2 * points @ centres.T + np.einsum("gd,gd->g", centres, centres)
        nearest: Floats = np.maximum((squares / self.reach).min(axis=1), 0.0).astype(np.float64)
        return nearest

    def with_centre(self, x: Vectors, looks: Vectors, typical: float) -> Self:
        """With m prompts of one more category, whose spread the covariance has not seen.

        typical: the distance of other prompts. The centre reaches so far that those of its own are no farther.
        """
        points = self._whitened(x, looks)
        centre = points.mean(axis=0)
        others = len(points) / (len(points) - 1)  # a prompt and the mean of the others are so much farther apart
        own = float(np.median(((points - centre) ** 2).sum(axis=1))) * others**2
        return replace(
            self,
            centres=np.concatenate([self.centres, centre[None]]),
            reach=np.append(self.reach, np.float32(max(1.0, own / typical))),
        )

    def _whitened(self, x: Vectors, looks: Vectors) -> Vectors:
        return seen(x, looks, self.style_mean, self.style_scale) @ self.whiten


def seen(x: Vectors, looks: Vectors, style_mean: Vectors, style_scale: Vectors) -> Vectors:
    """Vectors and styles side by side: (n, dim + STYLE)."""
    return np.concatenate([x, np.clip((looks - style_mean) / style_scale, -CLIP, CLIP)], axis=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """Of entropy or distance: what is typical of known prompts, and over which limit it alone makes a stranger.

    Raises ValueError.
    """

    typical: float
    limit: float

    def __post_init__(self) -> None:
        if not 0 <= self.typical < self.limit < np.inf:
            raise ValueError(f"a limit must be finite and over what is typical; got {self.limit} and {self.typical}")

    def share(self, values: Floats) -> Floats:
        """0 for typical values, 1 at the limit."""
        shares: Floats = np.maximum(values - self.typical, 0.0) / (self.limit - self.typical)
        return shares


@dataclass(frozen=True, slots=True, eq=False)
class Level1:
    """Prompt -> category.

    coef, intercept: (C, dim) and (C,), float32, divided by the temperature: logits = x @ coef.T + intercept.
    references: (N, dim) float32, training prompts that later stages and categories compare with.
    entropy, distance: limits of H(p) / log C and of the distance in `density`.
    figures: what was seen on held-out prompts, for people.
    """

    coef: Vectors
    intercept: Vectors
    references: Vectors
    density: Density
    entropy: Limit
    distance: Limit
    figures: dict[str, float]

    def probabilities(self, x: Vectors) -> Floats:
        """p(category) of unit vectors (n, dim): (n, C)."""
        return softmax((x @ self.coef.T + self.intercept).astype(np.float64))

    def distances(self, x: Vectors, prompts: Sequence[str]) -> Floats:
        """Of n prompts to what is known: (n,)."""
        return self.density.distance(x, styles(prompts))


def strangers(entropy: Floats, distance: Floats, of_entropy: Limit, of_distance: Limit) -> tuple[Mask, Mask]:
    """(far, unsure), both (n,): the prompts whose shares of the two limits, squared and added, are over 1.

    What is rather far and rather unsure is a stranger as well. The larger share says why.
    """
    unsure, far = of_entropy.share(entropy), of_distance.share(distance)
    strange = np.hypot(unsure, far) > 1
    return strange & (far >= unsure), strange & (far < unsure)


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
