"""What a judge looks at: the dimensions of a rubric, and the small linear model that makes one score of them.

After DMoERM (arXiv 2403.01197): a judge that scores single dimensions, and weights that are fitted to what was right,
do better than one that gives a total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST, MOST = 1.0, 10.0
"""A score of a dimension, and of a draft."""
SHRINKAGE = 20.0
"""Judged drafts that the weights before are worth when weights are fitted."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """name: the key in the judge's reply. question: what is judged, for the judge."""

    name: str
    question: str


@dataclass(frozen=True, slots=True)
class Rubric:
    """weights: of the dimensions, not negative, at least one above zero; None = equal."""

    dimensions: tuple[Dimension, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        names = [dimension.name.casefold() for dimension in self.dimensions]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a rubric needs dimensions of different names, got {names}")
        if self.weights is None:
            return
        if len(self.weights) != len(names) or min(self.weights) < 0 or not max(self.weights) > 0:
            raise ValueError(
                f"a rubric needs one weight for each of {', '.join(names)}, none below and not all at 0; "
                f"got {list(self.weights)}"
            )

    def total(self, scores: Mapping[str, float]) -> float:
        """One score, from 1 to 10, of those of the dimensions."""
        weights = self.weights or (1.0,) * len(self.dimensions)
        pairs = zip(weights, self.dimensions, strict=True)
        return sum(weight * scores[dimension.name] for weight, dimension in pairs) / sum(weights)


DEFAULT = Rubric(
    (
        Dimension("correctness", "Is what it says true, and the reasoning sound?"),
        Dimension("completeness", "Does it answer all that was asked?"),
        Dimension("clarity", "Is it easy to follow, without what nobody asked for?"),
    )
)


def fit_weights(
    scores: "NDArray[np.float64]",
    right: "NDArray[np.float64]",
    questions: "NDArray[np.int64]",
    towards: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Weights for a rubric, of sum 1: ridge regression, none negative, towards other weights; by default equal ones.

    scores: (n, dimensions), what a judge gave each draft; right: (n,), 1 for a draft that is right and 0 for one that
    is not; questions: (n,), which question it answers. Only differences between drafts of one question count: they are
    what a judge has to decide on. `towards` where nothing can be learned.
    """
    import numpy as np
    from scipy.optimize import nnls

    count = scores.shape[1]
    prior = np.full(count, 1.0 / count) if towards is None else np.asarray(towards) / np.sum(towards)
    seen, group = np.unique(questions, return_inverse=True)
    sizes = np.bincount(group, minlength=len(seen))

    def centred(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return values - (np.bincount(group, values, minlength=len(seen)) / sizes)[group]

    x = np.column_stack([centred(column / MOST) for column in scores.T])
    y = centred(right)
    scale = float(np.linalg.lstsq((x @ prior)[:, None], y, rcond=None)[0][0])  # of one score to the chance to be right
    if scale <= 0:
        return tuple(prior.tolist())
    pull = np.sqrt(SHRINKAGE / len(y)) * float(np.linalg.norm(x @ prior))
    weights, _ = nnls(np.vstack([x, pull * np.eye(count)]), np.concatenate([y / scale, pull * prior]))
    return tuple((weights / weights.sum()).tolist()) if weights.sum() > 0 else tuple(prior.tolist())
