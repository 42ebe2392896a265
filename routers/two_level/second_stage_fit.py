"""How a second stage is fitted, and whether it is taken in: only if it helps on held-out prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from routers.encoders import lexical
from routers.encoders.base import Vectors
from routers.two_level.second_stage import (
    Floats,
    Looks,
    Neighbours,
    Regressors,
    SecondStage,
    Singles,
    category_kernel,
    form_kernel,
    topic_kernel,
)
from routers.two_level.trees import Forest, Trees, features, principal

Indices = NDArray[np.intp]
Folds = Sequence[tuple[Indices, Indices]]
"""(train, test) of each fold."""

Option = TypeVar("Option", int, float)

DIRECTIONS = 64
"""Where there are more experts, stages predict so many main directions of their residuals."""

NEIGHBOURS = (30, 100)
TEMPERATURE = 0.1
DAMPING = 10.0
RIDGES = (5.0, 10.0, 30.0)
SHARPNESS = 4.0
STANDARD_ERRORS = 1.0
"""By how many the loss on held-out prompts must fall for a stage to be taken in."""


def centred_loss(predicted: Floats, scores: Floats) -> Floats:
    """(n,): mean squared error of a prompt's scores about their mean over the experts that were measured on it.

    A router compares experts: what all of them share (hard prompts, easy ones) does not change its choice.
    """
    measured = ~np.isnan(scores)
    items = np.maximum(measured.sum(axis=1, keepdims=True), 1)
    losses: Floats = (centred(predicted - scores) ** 2).sum(axis=1) / items[:, 0]
    return losses


def centred(values: Floats) -> Floats:
    """Less the mean of each row; 0 where nan."""
    known = ~np.isnan(values)
    means = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, values - means, 0.0)


def routed(predicted: Floats, scores: Floats) -> Floats:
    """(n,): the score of the measured expert that is expected to do best; 0 if none was measured."""
    best = np.where(np.isnan(scores), -np.inf, predicted).argmax(axis=1)
    found: Floats = np.nan_to_num(scores[np.arange(len(scores)), best])
    return found


def fit_second_stage(
    x: Vectors, prompts: Sequence[str], p: Floats, scores: Floats, held: Floats, folds: Folds, seed: int
) -> tuple[SecondStage | None, Floats, dict[str, float]]:
    """The second stage if it helps, the scores of held-out prompts with it, and figures.

    x: (N, dim), prompts: (N,), of the references. scores: (N, E), nan = not measured.
    p: (N, C), held: (N, E), what levels 1 and 2 say of them when they are fitted on other folds. Where an expert was
    not measured, `held` takes the place of its score. seed: of the trees.
    Hyperparameters are those of the least loss on the first two folds, the weights of the stages (non-negative least
    squares) those of the least loss on all. The stage is taken in if the loss falls by more than a standard error, and
    the routed score does not.
    """
    material = _Material.of(x, prompts, p, scores, held)
    counts = [n for n in NEIGHBOURS if n < len(x) // 2] or NEIGHBOURS[:1]
    count, by_neighbours = material.best(counts, material.with_neighbours, folds)
    ridge, by_regressors = material.best(RIDGES, material.with_regressors, folds)
    _, by_trees = material.best([seed], material.with_trees, folds)
    changes = [by_neighbours, by_regressors, by_trees]
    weights = _weights(changes, scores - held).tolist()
    refined = held + sum(weight * change for weight, change in zip(weights, changes, strict=True))
    gain = centred_loss(held, scores) - centred_loss(refined, scores)
    better = routed(refined, scores).mean() - routed(held, scores).mean()
    figures = {
        "second_stage_loss_before": float(centred_loss(held, scores).mean()),
        "second_stage_loss_after": float(centred_loss(refined, scores).mean()),
        "second_stage_routed_gain": float(better),
        "second_stage_neighbours": weights[0],
        "second_stage_regressors": weights[1],
        "second_stage_trees": weights[2],
    }
    if gain.mean() <= STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)) or better < 0:
        return None, held, {**figures, "second_stage_taken": 0.0}
    stage = SecondStage(
        basis=material.basis,
        means=material.means.astype(np.float32),
        looks=material.looks,
        categories=p.shape[1],
        neighbours=material.neighbours(np.arange(len(x)), count) if weights[0] > 0 else None,
        regressors=material.regressors(ridge) if weights[1] > 0 else None,
        trees=material.trees(seed) if weights[2] > 0 else None,
        neighbours_weight=float(weights[0]),
        regressors_weight=float(weights[1]),
        trees_weight=float(weights[2]),
    )
    return stage, refined, {**figures, "second_stage_taken": 1.0}


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    """What stages are fitted on: N references and E experts.

    scores, held: (N, E), as measured (nan = not), and as levels 1 and 2 expect them.
    means: (E,), basis: (r, E), looks: see `SecondStage`.
    targets, residuals: (N, r), the scores less the means and less `held`, along the basis.
    shares: (N, C). forms: (N, FORM). words: (N, BUCKETS), sparse. similar, kernel: (N, N), cosines and `Regressors`'s.
    centre, axes, features: of `Trees`.
    """

    scores: Floats
    held: Floats
    means: Floats
    basis: Singles
    looks: Looks
    targets: Singles
    residuals: Singles
    shares: Singles
    forms: Singles
    width: float
    words: Any
    similar: Singles
    kernel: Singles
    centre: Vectors
    axes: Vectors
    features: Singles

    @classmethod
    def of(cls, x: Vectors, prompts: Sequence[str], p: Floats, scores: Floats, held: Floats) -> "_Material":
        filled = np.where(np.isnan(scores), held, scores)
        means = filled.mean(axis=0)
        basis = _directions((filled - means).astype(np.float32))
        targets, residuals = ((filled - zero).astype(np.float32) @ basis.T for zero in (means, held))
        shares = p.astype(np.float32)
        similar = x @ x.T
        looks, words, forms = _looks(prompts)
        width = _width(forms)
        kernel = category_kernel(p, shares, topic_kernel(similar, SHARPNESS), form_kernel(forms, forms, width))
        kernel += (words @ words.T).toarray()
        centre, axes = principal(x)
        return cls(
            scores=scores,
            held=held,
            means=means,
            basis=basis,
            looks=looks,
            targets=targets,
            residuals=residuals,
            shares=shares,
            forms=forms,
            width=width,
            words=words,
            similar=similar,
            kernel=kernel,
            centre=centre,
            axes=axes,
            features=features(held @ basis.T, forms, (x - centre) @ axes.T),
        )

    def best(
        self, options: Sequence[Option], change: Callable[[Indices, Indices, Option], Floats], folds: Folds
    ) -> tuple[Option, Floats]:
        """The best option, and by how much it changes the scores (N, E) of all prompts when they are held out.

        change: (train, test, option) -> (len(test), E).
        """

        def loss(option: Option) -> float:
            return float(
                np.mean(
                    [centred_loss(self.held[b] + change(a, b, option), self.scores[b]).mean() for a, b in folds[:2]]
                )
            )

        chosen = options[0] if len(options) == 1 else min(options, key=loss)
        found = np.zeros(self.held.shape)
        for train, test in folds:
            found[test] = change(train, test, chosen)
        return chosen, found

    def with_neighbours(self, train: Indices, test: Indices, count: int) -> Floats:
        change = self.neighbours(train, count).predict(self.similar[np.ix_(test, train)]) @ self.basis
        return change.astype(np.float64)

    def neighbours(self, train: Indices, count: int) -> Neighbours:
        return Neighbours(self.residuals[train], count, TEMPERATURE, DAMPING)

    def with_regressors(self, train: Indices, test: Indices, ridge: float) -> Floats:
        dual = _solve(self.kernel[np.ix_(train, train)], self.targets[train], ridge)
        change: Floats = self.means + (self.kernel[np.ix_(test, train)] @ dual) @ self.basis - self.held[test]
        return change

    def regressors(self, ridge: float) -> Regressors:
        dual = _solve(self.kernel, self.targets, ridge)
        linear = np.asarray(self.words.T @ dual, np.float32)
        return Regressors(dual, linear, self.shares, self.forms, SHARPNESS, self.width)

    def with_trees(self, train: Indices, test: Indices, seed: int) -> Floats:
        forest = Forest.fit(self.features[train], self.targets[train], seed)
        change: Floats = self.means + forest.predict(self.features[test]) @ self.basis - self.held[test]
        return change

    def trees(self, seed: int) -> Trees:
        return Trees(Forest.fit(self.features, self.targets, seed), self.centre, self.axes)


def _directions(targets: Singles) -> Singles:
    """(r, E), orthonormal: the main directions of (N, E), or all of them where experts are few."""
    experts = targets.shape[1]
    if experts <= DIRECTIONS:
        return np.eye(experts, dtype=np.float32)
    from scipy.linalg import eigh

    _, basis = eigh(targets.T @ targets, subset_by_index=[experts - DIRECTIONS, experts - 1])
    return np.ascontiguousarray(basis.T)


def _looks(prompts: Sequence[str]) -> tuple[Looks, Any, Singles]:
    """How prompts look, their words as a sparse matrix (N, BUCKETS), and their forms (N, FORM)."""
    from scipy import sparse

    rows = [lexical.buckets(prompt) for prompt in prompts]
    seen = np.bincount(np.concatenate([at for at, _ in rows]), minlength=lexical.BUCKETS)
    idf = np.where(seen > 1, np.log((1 + len(prompts)) / (1 + seen)) + 1, 0.0).astype(np.float32)
    forms = lexical.forms(prompts)
    looks = Looks(idf, forms.mean(axis=0), forms.std(axis=0) + np.float32(1e-3))
    words = [looks.words(prompt) for prompt in prompts]
    ends = np.concatenate([[0], np.cumsum([len(at) for at, _ in words])])
    matrix = sparse.csr_array(
        (np.concatenate([tfidf for _, tfidf in words]), np.concatenate([at for at, _ in words]), ends),
        shape=(len(prompts), lexical.BUCKETS),
    )
    return looks, matrix, looks.forms(prompts)


def _width(forms: Singles) -> float:
    """The median squared distance between forms."""
    some = forms[:: max(1, len(forms) // 500)]
    squares = ((some[:, None] - some[None]) ** 2).sum(axis=2)
    return float(max(np.median(squares), 1e-3))


def _solve(kernel: Singles, targets: Singles, ridge: float) -> Singles:
    from scipy.linalg import cho_factor, cho_solve

    matrix = kernel.copy()
    matrix[np.diag_indices(len(matrix))] += ridge
    dual: Singles = cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), targets, check_finite=False)
    return dual


def _weights(predicted: Sequence[Floats], residuals: Floats) -> Floats:
    """Non-negative least squares of centred residuals (N, E), which may have nan, on centred predictions."""
    from scipy.optimize import nnls

    known = ~np.isnan(residuals)
    columns = [centred(np.where(known, values, np.nan)).ravel() for values in predicted]
    target = centred(residuals).ravel()
    gram = np.array([[a @ b for b in columns] for a in columns]) + 1e-9 * np.eye(len(columns))
    lower = np.linalg.cholesky(gram)
    found: Floats = nnls(lower.T, np.linalg.solve(lower, np.array([a @ target for a in columns])))[0]
    return found
