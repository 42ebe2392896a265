"""How level 1 is fitted: classifier, temperature, and from where on a prompt is a stranger."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.encoders.base import Vectors
from routers.two_level.level1 import (
    Density,
    Floats,
    Indices,
    Level1,
    Limit,
    Mask,
    entropy,
    seen,
    softmax,
    strangers,
)

Folds = Sequence[tuple[Indices, Indices]]
"""(train, test) of each fold; every prompt is in one test part."""

FOLDS = 5
NEIGHBOURHOODS = 20
LEAST_PROMPTS = 2 * FOLDS
"""Training prompts that a category needs, so that no fold takes all of them."""

REGULARISATION = 10.0
"""C of the logistic regression. Embeddings have length 1, so it must be weak for confident logits; the temperature
undoes what is too much of it."""

MAX_REFERENCES = 8192
"""Training prompts that are kept; 12 MB with 384 dimensions."""

SPREAD = 0.95
"""Quantile of known prompts whose distance to the median is the unit of entropy and of distance."""

LEAST_SPREAD = 1e-3
BINS = 15


@dataclass(frozen=True, slots=True)
class Doubt:
    """When a prompt goes to the general category.

    false_fallback: share of held-out prompts that may be taken for strangers.
    Raises ValueError.
    """

    false_fallback: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.false_fallback <= 0.5:
            raise ValueError(f"false_fallback must be in [0, 0.5]; got {self.false_fallback}")


def fit_level1(
    x: Vectors, looks: Vectors, y: Indices, counted: Mask, kept: Mask, folds: Folds, doubt: Doubt
) -> tuple[Level1, Floats]:
    """Classifier, temperature, density and limits; and the probabilities (n, C) of held-out prompts.

    x: (n, dim), unit vectors. looks: (n, STYLE), styles.
    y: (n,), category indices in 0..C-1, -1 for prompts that have none.
    counted: (n,), the prompts whose fall back to the generalist would be false, i.e. those of a specialist's category.
    kept: (n,), the prompts that become references.
    folds: what is held out together. Training prompts are often made from templates; held out one by one, each would
        have a twin in training, the limits would come out far too tight, and every prompt in a stranger's words would
        look far. See `neighbourhoods`.

    The limits are those that take `false_fallback` of the counted held-out prompts for strangers. The temperature is
    that of the least log-loss (Guo et al., arXiv 1706.04599). What stays is fitted on all prompts.
    """
    categories, known = int(y.max()) + 1, y >= 0
    logits, distance = np.zeros((len(y), categories)), np.zeros(len(y))
    for train, test in folds:
        labelled = train[known[train]]
        coef, intercept = _classifier(x[labelled], y[labelled], categories)
        logits[test] = x[test] @ coef.T + intercept
        distance[test] = fit_density(x[train], looks[train], y[train]).distance(x[test], looks[test])

    temperature = _temperature(logits[known], y[known])
    p = softmax(logits / temperature)
    unsureness = entropy(p)
    limits = _limits(unsureness[counted], distance[counted], doubt.false_fallback)
    far, unsure = strangers(unsureness, distance, *limits)
    coef, intercept = _classifier(x[known], y[known], categories)
    level1 = Level1(
        coef=(coef / temperature).astype(np.float32),
        intercept=(intercept / temperature).astype(np.float32),
        references=x[kept],
        density=fit_density(x, looks, y),
        entropy=limits[0],
        distance=limits[1],
        figures={
            "prompts": len(y),
            "held_out_accuracy": float((p[known].argmax(axis=1) == y[known]).mean()),
            "held_out_log_loss": _log_loss(p[known], y[known]),
            "held_out_calibration_error": calibration_error(p[known], y[known]),
            "held_out_far": float(far[counted].mean()),
            "held_out_unsure": float(unsure[counted].mean()),
            "held_out_false_fallback": float((far | unsure)[counted].mean()),
            "temperature": temperature,
        },
    )
    return level1, p


def fit_density(x: Vectors, looks: Vectors, y: Indices) -> Density:
    """Of prompts by their category; those without one (-1) have a centre too.

    Vectors and styles weigh the same, each with its variance over all prompts. The covariance is shrunk to the mean
    variance, as if that had been seen in D more prompts: few do not determine D (D + 1) / 2 numbers.
    """
    spread = looks.std(axis=0)
    typical = float(np.median(spread[spread > 0])) if spread.any() else 1.0
    mean, scale = looks.mean(axis=0), np.sqrt(spread**2 + (0.3 * typical) ** 2)  # a sign that hardly occurs is no unit
    points = seen(x, looks, mean, scale).astype(np.float64)
    weights = np.ones(points.shape[1])
    for part in (slice(None, x.shape[1]), slice(x.shape[1], None)):
        weights[part] /= np.sqrt(max(points[:, part].var(axis=0).sum(), 1e-2))
    points *= weights

    _, group = np.unique(y, return_inverse=True)
    members = np.bincount(group)
    centres = np.zeros((len(members), points.shape[1]))
    np.add.at(centres, group, points)
    centres /= members[:, None]
    rest = points - centres[group]
    covariance = rest.T @ rest / len(rest)
    dim = len(covariance)
    variance = 2 / dim  # of two parts with a variance of 1 each
    covariance = (len(rest) * covariance + dim * variance * np.eye(dim)) / (len(rest) + dim)
    whiten = np.linalg.cholesky(np.linalg.inv(covariance)) / np.sqrt(dim)
    return Density(
        style_mean=mean.astype(np.float32),
        style_scale=scale.astype(np.float32),
        whiten=(weights[:, None] * whiten).astype(np.float32),
        centres=(centres @ whiten).astype(np.float32),
        reach=np.ones(len(centres), np.float32),
    )


def _limits(unsureness: Floats, distance: Floats, false_fallback: float) -> tuple[Limit, Limit]:
    """Of entropy and distance, so that no more than this share of known prompts are strangers.

    Both are measured in units of their own spread; the ellipse around the typical prompt grows until it holds enough.
    """
    units = [_unit(unsureness), _unit(distance)]
    sizes = np.hypot(*(unit.share(values) for unit, values in zip(units, (unsureness, distance), strict=True)))
    # "higher" takes a value that occurs, so that no more than the allowed share lies above it. The last bits depend on
    # the batch: without a margin a prompt could fall back for being its own neighbour.
    size = max(float(np.quantile(sizes, 1 - false_fallback, method="higher")), LEAST_SPREAD) * (1 + LEAST_SPREAD)
    entropy_limit, distance_limit = (
        Limit(unit.typical, unit.typical + size * (unit.limit - unit.typical)) for unit in units
    )
    return entropy_limit, distance_limit


def _unit(values: Floats) -> Limit:
    typical, wide = np.quantile(values, [0.5, SPREAD])
    return Limit(float(typical), float(max(wide, typical + LEAST_SPREAD)))


def references(y: Indices, limit: int, rng: np.random.Generator) -> Mask:
    """Which prompts (n,) become references: all, or as many of each category where they are too many."""
    kept = np.ones(len(y), np.bool_)
    if len(y) > limit:
        names = np.unique(y)
        share = max(1, limit // len(names))
        for category in names:
            kept[rng.permutation(np.flatnonzero(y == category))[share:]] = False
    return kept


def neighbourhoods(x: Vectors, y: Indices, seed: int, rng: np.random.Generator) -> Folds:
    """Five folds that hold out whole neighbourhoods: prompts of one k-means cluster of a category stay together."""
    from sklearn.cluster import KMeans

    folds = np.zeros(len(y), np.intp)
    for category in range(int(y.max()) + 1):
        here = np.flatnonzero(y == category)
        distinct = len(np.unique(x[here].round(4), axis=0))
        clusters = min(NEIGHBOURHOODS, len(here) // 2, distinct)
        if clusters < FOLDS:  # all prompts (nearly) alike: there are no neighbourhoods to hold out
            folds[here] = rng.permutation(len(here)) % FOLDS
            continue
        near = KMeans(clusters, n_init=1, random_state=seed).fit_predict(x[here])
        sizes = np.bincount(near, minlength=clusters)
        load, fold_of = np.zeros(FOLDS), np.zeros(clusters, np.intp)
        for cluster in np.argsort(-sizes, kind="stable"):  # the largest first, each to the emptiest fold
            fold_of[cluster] = load.argmin()
            load[fold_of[cluster]] += sizes[cluster]
        folds[here] = fold_of[near]
    return [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS)]


def _classifier(x: Vectors, y: Indices, categories: int) -> tuple[Floats, Floats]:
    """Multinomial logistic regression: coef (C, dim), intercept (C,)."""
    if categories == 1:
        return np.zeros((1, x.shape[1])), np.zeros(1)
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=REGULARISATION, max_iter=2000).fit(x, y)
    coef, intercept = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if categories == 2:  # sklearn keeps the second category's logit only: the first one's is 0
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.concatenate([[0.0], intercept])
    return coef, intercept


def _temperature(logits: Floats, y: Indices) -> float:
    grid = np.geomspace(0.05, 20, 241)
    return float(min(grid, key=lambda temperature: _log_loss(softmax(logits / temperature), y)))


def _log_loss(p: Floats, y: Indices) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def calibration_error(p: Floats, y: Indices) -> float:
    """Expected calibration error: the mean of |share of right guesses - mean confidence|, over bins of confidence."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(y))
