"""How the two-level router learns from labelled prompts: what is chosen is chosen on held-out folds of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from routers.blas import blas_threads
from routers.encoders.base import Encoder, Vectors
from routers.encoders.style import styles
from routers.labelled.data import Labelled
from routers.two_level.committee_fit import fit_committees
from routers.two_level.fit import Budgets, embed, shrunk
from routers.two_level.level1 import Floats, Indices, Mask
from routers.two_level.level1_fit import (
    FOLDS,
    LEAST_PROMPTS,
    MAX_REFERENCES,
    Doubt,
    Folds,
    fit_level1,
    references,
)
from routers.two_level.model import Fitted, Level2
from routers.two_level.second_stage import SecondStage
from routers.two_level.second_stage_fit import centred_loss, fit_second_stage, routed

SHRINKAGES = (5.0, 10.0, 20.0, 50.0, 100.0, 300.0, np.inf)
CLUSTERS = (4, 8, 16, 32, 64)
LEAST_OF_CLUSTER = 20
LEAST_FOR_SECOND = 200
"""Prompts under which no second stage is tried."""


def learn(data: Labelled, encoder: Encoder, *, general: str, seed: int, doubt: Doubt, budgets: Budgets) -> Fitted:
    """See `TwoLevelRouter.fit_labelled`."""
    _check(data)
    x = embed(data.prompts, encoder)
    with blas_threads(1):  # the matrices are small; see blas_threads
        folds = data.folds(FOLDS, seed)
        names, y = _categories(data, x, folds, seed)
        rows = names if general in names else (*names, general)
        apart = rows.index(general)
        kept = references(y, MAX_REFERENCES, np.random.default_rng(seed))
        counted = y != apart
        counted = counted if counted.any() else ~counted
        level1, p = fit_level1(x, styles(data.prompts), y, counted, kept, folds, doubt)

        table = _Table(data.scores, np.where(y < 0, apart, y), len(rows), apart if general not in names else None)
        shrinkage = min(SHRINKAGES, key=lambda s: centred_loss(table.held_out(p, folds, s), data.scores).mean())
        held = table.held_out(p, folds, shrinkage)
        single = table.held_out(p, folds, np.inf)
        quality = table.quality(np.arange(len(data)), shrinkage)
        second, refined, figures = _second(data, x, p, held, kept, folds, seed)
        committees = fit_committees(data, table.y, len(rows), folds)
    first = np.full(len(rows), -1)
    if budgets.is_set:
        first = budgets.first(quality, table.prior, data.experts, {})
    figures |= {
        "shrinkage": float(min(shrinkage, 1e9)),
        "held_out_best_single": float(routed(single, data.scores).mean()),
        "held_out_routed": float(routed(refined, data.scores).mean()),
        "held_out_score_error": _calibration(refined, data.scores),
    }
    return Fitted(
        encoder=encoder.name,
        categories=names,
        general=general,
        experts=data.experts,
        fallback=None,
        level1=replace(level1, figures={**level1.figures, **figures}),
        level2=Level2(quality, table.prior, first, mixture=True),
        second=second,
        committees=committees,
    )


class _Table:
    """Scores of n prompts by category.

    y: (n,), rows of level 2. everything: the row that is measured on all prompts, for it has none of its own; or None.
    """

    def __init__(self, scores: Floats, y: Indices, rows: int, everything: int | None) -> None:
        self.y = y
        self._scores, self._measured = np.nan_to_num(scores), (~np.isnan(scores)).astype(np.float64)
        self._of_row = np.eye(rows)[y]
        self._everything = everything
        self.prior = self._of_row.mean(axis=0)

    def quality(self, prompts: Indices, shrinkage: float) -> Floats:
        """Q (R, E) of what was measured on these prompts."""
        of_row = self._of_row[prompts].T
        sums, items = of_row @ self._scores[prompts], of_row @ self._measured[prompts]
        if self._everything is not None:
            sums[self._everything] = self._scores[prompts].sum(axis=0)
            items[self._everything] = self._measured[prompts].sum(axis=0)
        never = items.sum(axis=0) == 0  # in this fold: nothing is known but what others do
        sums[:, never] = sums.sum(axis=1, keepdims=True)
        items[:, never] = items.sum(axis=1, keepdims=True)
        return shrunk(sums, items, self.prior, shrinkage)

    def held_out(self, p: Floats, folds: Folds, shrinkage: float) -> Floats:
        """(n, E): the mixture of rows, each prompt with the Q of the folds without it."""
        found = np.zeros(self._scores.shape)
        for train, test in folds:
            found[test] = p[test] @ self.quality(train, shrinkage)[: p.shape[1]]
        return found


def _check(data: Labelled) -> None:
    idle = [expert for expert, mean in zip(data.experts, data.means(), strict=True) if np.isnan(mean)]
    if idle:
        raise ValueError(f"experts without a measured prompt: {', '.join(idle)}; measure them or leave them out")
    if len(set(data.prompts)) < LEAST_PROMPTS:
        raise ValueError(f"a router needs at least {LEAST_PROMPTS} different prompts; got {len(set(data.prompts))}")


def _categories(data: Labelled, x: Vectors, folds: Folds, seed: int) -> tuple[tuple[str, ...], Indices]:
    """Names, and the category (n,) of each prompt, -1 where it is too rare to learn. Clusters where none is given."""
    labels = data.categories
    if labels is None or not (names := _frequent(data.prompts, labels)):
        return _clusters(x, data, folds, seed)
    return names, np.array([names.index(label) if label in names else -1 for label in labels])


def _frequent(prompts: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The categories of enough different prompts, sorted."""
    counts = Counter(label for _, label in dict.fromkeys(zip(prompts, labels, strict=True)))
    return tuple(sorted(name for name, n in counts.items() if n >= LEAST_PROMPTS))


def _clusters(x: Vectors, data: Labelled, folds: Folds, seed: int) -> tuple[tuple[str, ...], Indices]:
    """Clusters of similar prompts, as many as predict the scores of held-out prompts best; one if none do."""
    from sklearn.cluster import KMeans

    def near(train: Indices, k: int) -> Indices:
        model = KMeans(k, n_init=1, random_state=seed).fit(x[train])
        labels: Indices = model.predict(x).astype(np.intp)
        return labels

    def loss(k: int) -> float:
        losses = []
        for train, test in folds[:2]:
            labels = near(train, k) if k > 1 else np.zeros(len(x), np.intp)
            table = _Table(data.scores, labels, k, None)
            predicted = np.eye(k)[labels] @ table.quality(train, SHRINKAGES[2])
            losses.append(centred_loss(predicted[test], data.scores[test]).mean())
        return float(np.mean(losses))

    distinct = len(np.unique(x.round(4), axis=0))
    k = min((1, *(k for k in CLUSTERS if LEAST_OF_CLUSTER * k <= distinct)), key=loss)
    if k == 1:
        return ("cluster 1",), np.zeros(len(x), np.intp)
    found = near(np.arange(len(x)), k)
    names = [f"cluster {i + 1:0{len(str(k))}}" for i in range(k)]
    frequent = _frequent(data.prompts, [names[i] for i in found])
    return frequent, np.array([frequent.index(names[i]) if names[i] in frequent else -1 for i in found])


def _second(
    data: Labelled, x: Vectors, p: Floats, held: Floats, kept: Mask, folds: Folds, seed: int
) -> tuple[SecondStage | None, Floats, dict[str, float]]:
    """The second stage of the references; the scores of held-out prompts with it, and figures."""
    if kept.sum() < LEAST_FOR_SECOND or len(data.experts) < 2:
        return None, held, {}
    of_kept = np.flatnonzero(kept)
    place = np.cumsum(kept) - 1
    parts = [(place[train[kept[train]]], place[test[kept[test]]]) for train, test in folds]
    prompts = [data.prompts[i] for i in of_kept]
    second, found, figures = fit_second_stage(x[kept], prompts, p[kept], data.scores[kept], held[kept], parts, seed)
    refined = held.copy()
    refined[of_kept] = found
    return second, refined, figures


def _calibration(predicted: Floats, scores: Floats) -> float:
    """The mean gap between expected and measured scores, over tenths of the expected ones."""
    measured = ~np.isnan(scores)
    bins = np.minimum((np.clip(predicted, 0, 1) * 10).astype(np.intp), 9)[measured]
    gaps = np.bincount(bins, (scores - predicted)[measured], 10)
    return float(np.abs(gaps).sum() / measured.sum())
