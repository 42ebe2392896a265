"""Categories as skills: where the labelled prompts tell their category, each is a skill that a classifier detects.

Linear discriminant analysis: one Gaussian for each category, with one covariance for all. It is in closed form, so that
each fold of a cross-validation can afford it with dozens of categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.encoders.base import Vectors
from routers.skill.vocabulary import Floats, Indices, Tags

MOST = 8
"""Categories of a prompt, the most probable ones."""

PARTS = 4
RIDGE = 0.1
"""Share of the covariance that is that of a ball: there are as many dimensions as prompts in a small set."""


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """names: of the C categories; coef, intercept: (C, dim) and (C,), logits = x @ coef.T + intercept."""

    names: tuple[str, ...]
    coef: Floats
    intercept: Floats

    def match(self, x: Vectors) -> Tags:
        """The most probable categories of unit vectors (n, dim); strengths are their probabilities."""
        p = _softmax(x @ self.coef.T + self.intercept)
        most = min(MOST, p.shape[1])
        likely = np.argpartition(-p, most - 1, axis=1)[:, :most]
        return Tags(likely, np.take_along_axis(p, likely, axis=1))


def learned(x: Vectors, categories: Sequence[str]) -> Categories:
    """The classifier of prompts' vectors (n, dim) and their categories (n,).

    Its temperature is that of the least log-loss on parts that were held out (Guo et al., arXiv 1706.04599).
    """
    names, y = np.unique(np.array(categories), return_inverse=True)
    part = np.zeros(len(y), np.intp)
    part[np.argsort(y, kind="stable")] = np.arange(len(y)) % PARTS  # every category is spread evenly
    logits = np.zeros((len(y), len(names)))
    for held in range(PARTS):
        coef, intercept = _discriminant(x[part != held], y[part != held], len(names))
        logits[part == held] = x[part == held] @ coef.T + intercept
    rows = np.arange(len(y))
    temperature = min(
        np.geomspace(0.25, 8, 21), key=lambda t: -np.log(np.maximum(_softmax(logits / t)[rows, y], 1e-12)).mean()
    )
    coef, intercept = _discriminant(x, y, len(names))
    return Categories(tuple(names.tolist()), coef / temperature, intercept / temperature)


def _discriminant(x: Vectors, y: Indices, categories: int) -> tuple[Floats, Floats]:
    count = np.bincount(y, minlength=categories)
    middle = np.eye(categories)[y].T @ x / np.maximum(count, 1)[:, None]
    rest = x - middle[y]
    covariance = rest.T @ rest / len(x)
    ball = max(float(np.trace(covariance)) / len(covariance), 1e-9)
    covariance = (1 - RIDGE) * covariance + RIDGE * ball * np.eye(len(covariance))
    coef: Floats = np.linalg.solve(covariance, middle.T).T
    # A category that a part lacks has one prompt's worth of prior: logits must be finite.
    intercept: Floats = -0.5 * (coef * middle).sum(axis=1) + np.log(np.maximum(count, 1) / len(x))
    return coef, intercept


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows: Floats = powers / powers.sum(axis=1, keepdims=True)
    return rows
