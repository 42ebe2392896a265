"""How the two-level router learns: arrays in, arrays out. `TwoLevelRouter.fit` is the door to all this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routers.encoder import Vectors, blas_threads
from routers.planner import plan

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Quality = Mapping[str, Mapping[str, tuple[float, int]]]
"""category -> expert -> (mean score in [0, 1], number of items that it is the mean of)."""

FOLDS = 5
NEIGHBOURHOODS = 20
_MARGIN = 1e-6
LEAST_PROMPTS = 2 * FOLDS
"""Training prompts that a category needs, so that no fold takes all of them."""


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

    def look(self, x: Vectors) -> tuple[Floats, Floats, Floats]:
        """Of unit vectors (n, dim): probabilities (n, C), entropies / log C (n,), cosine distances (n,)."""
        p = softmax((x @ self.coef.T + self.intercept).astype(np.float64))
        return p, entropy(p), distance(x, self.references, self.neighbours)


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


def distance(x: Vectors, references: Vectors, neighbours: int) -> Floats:
    """Mean cosine distance of each row of `x` to its nearest references, in [0, 2]."""
    k = min(neighbours, len(references))
    similar = np.partition(x @ references.T, -k, axis=1)[:, -k:]
    rows: Floats = 1.0 - similar.mean(axis=1, dtype=np.float64)
    return rows


def fit_level1(
    x: Vectors,
    y: Indices,
    counted: NDArray[np.bool_],
    *,
    seed: int,
    neighbours: int,
    false_fallback: float,
    max_references: int,
) -> Level1:
    """Classifier, temperature and thresholds from unit vectors (n, dim) and category indices (n,) in 0..C-1.

    counted: (n,), the prompts whose fall back to the generalist would be false, i.e. those of a specialist's category.

    Held out are whole neighbourhoods of prompts, five folds of them. Training prompts are often made from templates;
    held out one by one, each would have a twin in training, the thresholds would come out far too tight, and every
    prompt in a stranger's words would look far (with MiniLM and templated domains: 17 % false fallbacks instead of 5).
    Both thresholds are the quantile 1 - false_fallback / 2 of the counted held-out prompts, so that together they send
    at most `false_fallback` of those to the generalist. The temperature is that of the least log-loss (Guo et al.,
    arXiv 1706.04599). The classifier that stays is fitted on all prompts.
    """
    with blas_threads(1):  # the matrices are small; see blas_threads
        return _fit_level1(x, y, counted, np.random.default_rng(seed), seed, neighbours, false_fallback, max_references)


def _fit_level1(
    x: Vectors,
    y: Indices,
    counted: NDArray[np.bool_],
    rng: np.random.Generator,
    seed: int,
    neighbours: int,
    false_fallback: float,
    max_references: int,
) -> Level1:
    categories = int(y.max()) + 1
    kept = _references(y, max_references, rng)
    folds = _folds(x, y, seed, rng)
    logits, far = np.zeros((len(y), categories)), np.zeros(len(y))
    for fold in range(FOLDS):
        held = folds == fold
        coef, intercept = _classifier(x[~held], y[~held], categories)
        logits[held] = x[held] @ coef.T + intercept
        far[held] = distance(x[held], x[kept & ~held], neighbours)

    temperature = _temperature(logits, y)
    p = softmax(logits / temperature)
    unsure = entropy(p)
    quantile = 1 - false_fallback / 2
    # "higher" takes a value that occurs, so that no more than the allowed share lies above it. The last bits of a
    # distance depend on the batch: without the margin a prompt could fall back for being its own neighbour.
    entropy_threshold = float(np.quantile(unsure[counted], quantile, method="higher")) + _MARGIN
    distance_threshold = float(np.quantile(far[counted], quantile, method="higher")) + _MARGIN
    fallback = (unsure > entropy_threshold) | (far > distance_threshold)
    coef, intercept = _classifier(x, y, categories)
    return Level1(
        coef=(coef / temperature).astype(np.float32),
        intercept=(intercept / temperature).astype(np.float32),
        references=x[kept],
        neighbours=neighbours,
        entropy_threshold=entropy_threshold,
        distance_threshold=distance_threshold,
        figures={
            "prompts": len(y),
            "held_out_accuracy": float((p.argmax(axis=1) == y).mean()),
            "held_out_log_loss": _log_loss(p, y),
            "held_out_false_fallback": float(fallback[counted].mean()),
            "temperature": temperature,
        },
    )


def _references(y: Indices, limit: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which prompts are kept to measure distances to: all, or as many of each category where they are too many."""
    kept = np.ones(len(y), np.bool_)
    if len(y) > limit:
        share = max(1, limit // (int(y.max()) + 1))
        for category in range(int(y.max()) + 1):
            kept[rng.permutation(np.flatnonzero(y == category))[share:]] = False
    return kept


def _folds(x: Vectors, y: Indices, seed: int, rng: np.random.Generator) -> Indices:
    """The fold (n,) of each prompt: prompts of one k-means cluster of a category stay together."""
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
    return folds


def _classifier(x: Vectors, y: Indices, categories: int) -> tuple[Floats, Floats]:
    """Multinomial logistic regression: coef (C, dim), intercept (C,)."""
    if categories == 1:
        return np.zeros((1, x.shape[1])), np.zeros(1)
    from sklearn.linear_model import LogisticRegression

    # Embeddings have length 1, so weak regularisation (large C) is needed for confident logits; the temperature undoes
    # what is too much of it.
    model = LogisticRegression(C=10.0, max_iter=2000).fit(x, y)
    coef, intercept = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if categories == 2:  # sklearn keeps the second category's logit only: the first one's is 0
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.concatenate([[0.0], intercept])
    return coef, intercept


def _temperature(logits: Floats, y: Indices) -> float:
    grid = np.geomspace(0.05, 20, 241)
    return float(min(grid, key=lambda temperature: _log_loss(softmax(logits / temperature), y)))


def _log_loss(p: Floats, y: Indices) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Level2:
    """Category -> experts.

    quality: (R, E), expected score in [0, 1]; rows are the categories, columns the experts.
    ranking: (R, E), expert indices, the best first.
    """

    quality: Floats
    ranking: Indices


def fit_level2(
    quality: Quality,
    rows: Sequence[str],
    general: str,
    experts: Sequence[str],
    prior: Floats,
    *,
    shrinkage: float,
    fallback: str | None,
    parameters: Mapping[str, int] | None,
    total_budget: float | None,
    active_budget: float | None,
) -> Level2:
    """Quality and ranking.

    Measured: Q = (n * mean + shrinkage * g) / (n + shrinkage), g = the expert's mean over all its items (DESIGN 7).
    Not measured: g, but no more than the least that is measured in the category: being good at home says nothing about
    elsewhere. A category without any measurement (the general one): the expert's mean Q over the other categories.
    prior: (R,), the shares of the categories. Budgets put the planner's choice first; `fallback` stands first in the
    general category in any case.
    """
    means, items = np.zeros((len(rows), len(experts))), np.zeros((len(rows), len(experts)))
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            means[rows.index(category), experts.index(expert)] = mean
            items[rows.index(category), experts.index(expert)] = n
    overall = (means * items).sum(axis=0) / items.sum(axis=0)
    q = (items * means + shrinkage * overall) / np.maximum(items + shrinkage, 1e-12)
    measured = items > 0
    known_rows = measured.any(axis=1)
    least = np.where(measured, q, np.inf).min(axis=1, keepdims=True)
    q = np.where(measured, q, np.minimum(overall, least))
    shares = prior[known_rows]
    q[~known_rows] = np.average(q[known_rows], axis=0, weights=shares if shares.sum() > 0 else None)
    typical = np.average(q, axis=0, weights=prior)

    ranking = np.stack([np.lexsort((-typical, ~seen, -row)) for row, seen in zip(q, measured, strict=True)])
    fixed = {rows.index(general): experts.index(fallback)} if fallback is not None else {}
    first = dict(fixed)
    if total_budget is not None or active_budget is not None:
        sizes = [(parameters or {})[expert] for expert in experts]
        first = dict(enumerate(plan(q, prior, sizes, total_budget, active_budget, fixed).tolist()))
    for row_index, expert_index in first.items():
        others = ranking[row_index][ranking[row_index] != expert_index]
        ranking[row_index] = np.concatenate([[expert_index], others])
    return Level2(q, ranking)
