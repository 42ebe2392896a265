"""How the two-level router learns from categories and the quality that was measured in them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routers.blas import blas_threads
from routers.encoders.base import Encoder, Vectors
from routers.two_level.model import Fitted, Floats, Indices, Level1, Level2, Mask, distance, entropy, softmax
from routers.two_level.planner import Limit, plan

Quality = Mapping[str, Mapping[str, tuple[float, int]]]
"""category -> expert -> (mean score in [0, 1], number of items that it is the mean of)."""

Folds = Sequence[tuple[Indices, Indices]]
"""(train, test) of each fold; every prompt is in one test part."""

FOLDS = 5
SHRINKAGE = 20.0
"""Items that the overall mean of an expert is worth beside its mean in a category."""

NEIGHBOURHOODS = 20
LEAST_PROMPTS = 2 * FOLDS
"""Training prompts that a category needs, so that no fold takes all of them."""

REGULARISATION = 10.0
"""C of the logistic regression. Embeddings have length 1, so it must be weak for confident logits; the temperature
undoes what is too much of it."""

MAX_REFERENCES = 8192
"""Training prompts that distances are measured to; 12 MB with 384 dimensions, about a millisecond a prompt."""

BINS = 15
_MARGIN = 1e-6
_JUST = 1e-9
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Doubt:
    """When a prompt goes to the general category.

    neighbours: K, number of training prompts that the distance is the mean over.
    false_fallback: share of held-out prompts that the two thresholds together may send there.
    Raises ValueError.
    """

    neighbours: int = 5
    false_fallback: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.false_fallback <= 0.5 or self.neighbours < 1:
            raise ValueError(
                "false_fallback must be in [0, 0.5] and neighbours at least 1; "
                f"got {self.false_fallback} and {self.neighbours}"
            )


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a plan must keep; see `planner.plan`. `parameters` of every expert are needed if one of the two is set."""

    parameters: Mapping[str, int] | None = None
    total: float | None = None
    active: float | None = None
    limits: Sequence[Limit] = ()

    @property
    def is_set(self) -> bool:
        return self.total is not None or self.active is not None or bool(self.limits)

    def first(self, quality: Floats, prior: Floats, experts: Sequence[str], fixed: Mapping[int, int]) -> Indices:
        """The planned expert (R,) of each category. Raises ValueError, PlanError."""
        parameters = self.parameters or {}
        unknown = [expert for expert in experts if expert not in parameters]
        if unknown and (self.total is not None or self.active is not None):
            raise ValueError(f"a budget needs the `parameters` of every expert; missing: {', '.join(unknown)}")
        sizes = [parameters.get(expert, 1) for expert in experts]
        return plan(quality, prior, sizes, self.total, self.active, fixed, self.limits)


def fit(
    prompts: Sequence[str],
    categories: Sequence[str],
    quality: Quality,
    encoder: Encoder,
    *,
    general: str,
    seed: int,
    fallback: str | None,
    doubt: Doubt,
    shrinkage: float,
    prior: Mapping[str, float] | None,
    budgets: Budgets,
    on_progress: Callable[[int, int], None] | None,
) -> Fitted:
    """See `TwoLevelRouter.fit`."""
    names, experts = _checked(prompts, categories, quality, general, fallback)
    if shrinkage < 0:
        raise ValueError(f"shrinkage must be at least 0; got {shrinkage}")
    rows = names if general in names else (*names, general)
    y = np.array([names.index(category) for category in categories])
    counted = np.array([category != general for category in categories])
    shares = _prior(prior or Counter(categories), rows)
    table = fit_level2(quality, rows, experts, shares, shrinkage)
    fixed = {} if fallback is None else {rows.index(general): experts.index(fallback)}
    first = np.full(len(rows), -1)
    if budgets.is_set:
        first = budgets.first(table, shares, experts, fixed)
    first[list(fixed)] = list(fixed.values())
    x = embed(prompts, encoder, on_progress)
    with blas_threads(1):  # the matrices are small; see blas_threads
        rng = np.random.default_rng(seed)
        kept = references(y, MAX_REFERENCES, rng)
        folds = neighbourhoods(x, y, seed, rng)
        level1, _ = fit_level1(x, y, counted if counted.any() else ~counted, kept, folds, doubt)
    return Fitted(
        encoder=encoder.name,
        categories=names,
        general=general,
        experts=experts,
        fallback=fallback,
        level1=level1,
        level2=Level2(table, shares, first, mixture=False),
    )


def embed(prompts: Sequence[str], encoder: Encoder, on_progress: Callable[[int, int], None] | None = None) -> Vectors:
    """(n, dim); on_progress is called with (prompts embedded, prompts)."""
    parts = [np.zeros((0, encoder.dim), np.float32)]
    for start in range(0, len(prompts), _BATCH):
        parts.append(encoder.encode(prompts[start : start + _BATCH]))
        if on_progress is not None:
            on_progress(min(start + _BATCH, len(prompts)), len(prompts))
    return np.concatenate(parts)


def fit_level1(x: Vectors, y: Indices, counted: Mask, kept: Mask, folds: Folds, doubt: Doubt) -> tuple[Level1, Floats]:
    """Classifier, temperature and thresholds; and the probabilities (n, C) of held-out prompts.

    x: (n, dim), unit vectors. y: (n,), category indices in 0..C-1, -1 for prompts that have none.
    counted: (n,), the prompts whose fall back to the generalist would be false, i.e. those of a specialist's category.
    kept: (n,), the prompts that distances are measured to.
    folds: what is held out together. Training prompts are often made from templates; held out one by one, each would
        have a twin in training, the thresholds would come out far too tight, and every prompt in a stranger's words
        would look far (with MiniLM and templated domains: 17 % false fallbacks instead of 5). See `neighbourhoods`.

    Both thresholds are the quantile 1 - false_fallback / 2 of the counted held-out prompts, so that together they send
    at most `false_fallback` of those to the generalist. The temperature is that of the least log-loss (Guo et al.,
    arXiv 1706.04599). The classifier that stays is fitted on all prompts.
    """
    categories, known = int(y.max()) + 1, y >= 0
    logits, far = np.zeros((len(y), categories)), np.zeros(len(y))
    for train, test in folds:
        labelled = train[known[train]]
        coef, intercept = _classifier(x[labelled], y[labelled], categories)
        logits[test] = x[test] @ coef.T + intercept
        far[test] = distance(x[test] @ x[train[kept[train]]].T, doubt.neighbours)

    temperature = _temperature(logits[known], y[known])
    p = softmax(logits / temperature)
    unsure = entropy(p)
    quantile = 1 - doubt.false_fallback / 2
    # "higher" takes a value that occurs, so that no more than the allowed share lies above it. The last bits of a
    # distance depend on the batch: without the margin a prompt could fall back for being its own neighbour.
    entropy_threshold = float(np.quantile(unsure[counted], quantile, method="higher")) + _MARGIN
    distance_threshold = float(np.quantile(far[counted], quantile, method="higher")) + _MARGIN
    fallback = (unsure > entropy_threshold) | (far > distance_threshold)
    coef, intercept = _classifier(x[known], y[known], categories)
    level1 = Level1(
        coef=(coef / temperature).astype(np.float32),
        intercept=(intercept / temperature).astype(np.float32),
        references=x[kept],
        neighbours=doubt.neighbours,
        entropy_threshold=entropy_threshold,
        distance_threshold=distance_threshold,
        figures={
            "prompts": len(y),
            "held_out_accuracy": float((p[known].argmax(axis=1) == y[known]).mean()),
            "held_out_log_loss": _log_loss(p[known], y[known]),
            "held_out_calibration_error": calibration_error(p[known], y[known]),
            "held_out_false_fallback": float(fallback[counted].mean()),
            "temperature": temperature,
        },
    )
    return level1, p


def references(y: Indices, limit: int, rng: np.random.Generator) -> Mask:
    """Which prompts (n,) are kept to measure distances to: all, or as many of each category where they are too many."""
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


def fit_level2(
    quality: Quality, rows: Sequence[str], experts: Sequence[str], prior: Floats, shrinkage: float
) -> Floats:
    """Q (R, E), the expected scores.

    Measured: Q = (n * mean + shrinkage * g) / (n + shrinkage), g = the expert's mean over all its items (DESIGN 7).
    Not measured: g, but just under the least that is measured in the category: being good at home says nothing about
    elsewhere. A category without any measurement (the general one): the expert's mean Q over the other categories.
    prior: (R,), the shares of the categories.
    """
    means, items = np.zeros((len(rows), len(experts))), np.zeros((len(rows), len(experts)))
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            means[rows.index(category), experts.index(expert)] = mean
            items[rows.index(category), experts.index(expert)] = n
    return shrunk(means * items, items, prior, shrinkage)


def shrunk(sums: Floats, items: Floats, prior: Floats, shrinkage: float) -> Floats:
    """`fit_level2` of the sums of scores (R, E) and the numbers of items (R, E)."""
    overall = sums.sum(axis=0) / items.sum(axis=0)
    measured = items > 0
    if np.isinf(shrinkage):
        q = np.where(measured, overall, 0.0)
    else:
        q = (sums + shrinkage * overall) / np.maximum(items + shrinkage, 1e-12)
    known_rows = measured.any(axis=1)
    least = np.where(measured, q, np.inf).min(axis=1, keepdims=True)
    q = np.where(measured, q, np.maximum(np.minimum(overall, least) - _JUST, 0.0))
    shares = prior[known_rows]
    q[~known_rows] = np.average(q[known_rows], axis=0, weights=shares if shares.sum() > 0 else None)
    return q


def _prior(shares: Mapping[str, float], rows: tuple[str, ...]) -> Floats:
    unknown = [category for category in shares if category not in rows]
    values = np.array([shares.get(category, 0.0) for category in rows], np.float64)
    if unknown or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"prior must give shares >= 0 of {', '.join(rows)}; got {dict(shares)}")
    shares_of_one: Floats = values / values.sum()
    return shares_of_one


def _checked(
    prompts: Sequence[str], categories: Sequence[str], quality: Quality, general: str, fallback: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(category names of the classifier, expert names), both sorted."""
    if len(prompts) != len(categories):
        raise ValueError(f"every prompt needs a category; got {len(prompts)} prompts and {len(categories)} categories")
    counts = Counter(categories)
    if not counts:
        raise ValueError("there are no training prompts; a router needs at least one category")
    few = [f"{category}: {n}" for category, n in sorted(counts.items()) if n < LEAST_PROMPTS]
    if few:
        raise ValueError(f"a category needs at least {LEAST_PROMPTS} training prompts; got {', '.join(few)}")
    unknown = sorted(category for category in quality if category not in counts and category != general)
    if unknown:
        raise ValueError(f"quality has categories without training prompts: {', '.join(unknown)}")
    totals: Counter[str] = Counter()
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            if not 0 <= mean <= 1 or n < 0:
                raise ValueError(
                    f"quality of {expert} in {category} must be a mean in [0, 1] of n >= 0 items; got {(mean, n)}"
                )
            totals[expert] += n
    bare = sorted(c for c in counts if c != general and not any(n for _, n in quality.get(c, {}).values()))
    if bare:
        raise ValueError(f"no expert was measured in {', '.join(bare)}: measure one there or leave its prompts out")
    idle = sorted(expert for expert, n in totals.items() if n == 0)
    if idle or not totals:
        raise ValueError(f"experts without a measured item: {', '.join(idle) or 'there is no expert at all'}")
    if fallback is not None and fallback not in totals:
        raise ValueError(f"the fallback {fallback!r} has no measured quality; experts: {', '.join(sorted(totals))}")
    return tuple(sorted(counts)), tuple(sorted(totals))
