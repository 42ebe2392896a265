"""Extremely randomized trees (Geurts et al. 2006) as a second stage: what a prompt is about and how it looks -> scores.

Where categories are blind, trees find rules that need both: few options *and* a formula, long *and* about law. Deciding
needs numpy only; fitting uses scikit-learn.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routers.encoders.base import Vectors

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

TREES = 100
DEPTH = 10
LEAST_OF_LEAF = 10
SHARE_OF_FEATURES = 0.4
AXES = 64
"""Principal axes of the embedding that trees see."""

_LEAF = -1


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """T trees of M nodes in all, L of which are leaves. Their mean predicts r values.

    feature: (M,), what a node asks about, -1 in leaves. threshold: (M,). left: (M,), the node for values up to the
    threshold; the one for values above it follows it. In leaves `left` is the row of `values` (L, r).
    roots: (T,). depth: questions on the longest way down.
    """

    feature: NDArray[np.int32]
    threshold: Singles
    left: NDArray[np.int32]
    values: Singles
    roots: NDArray[np.int32]
    depth: int

    @classmethod
    def fit(cls, features: Singles, targets: Singles, seed: int) -> "Forest":
        """features: (N, F), targets: (N, r)."""
        from sklearn.ensemble import ExtraTreesRegressor

        model = ExtraTreesRegressor(
            TREES,
            max_depth=DEPTH,
            min_samples_leaf=LEAST_OF_LEAF,
            max_features=SHARE_OF_FEATURES,
            random_state=seed,
        ).fit(features, targets)
        trees = [_Tree.of(estimator.tree_) for estimator in model.estimators_]
        nodes = np.cumsum([0, *(len(tree.feature) for tree in trees)])
        leaves = np.cumsum([0, *(len(tree.values) for tree in trees)])
        left = [
            tree.left + np.where(tree.feature == _LEAF, first_leaf, first_node).astype(np.int32)
            for tree, first_node, first_leaf in zip(trees, nodes, leaves, strict=False)
        ]
        return cls(
            feature=np.concatenate([tree.feature for tree in trees]),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            left=np.concatenate(left).astype(np.int32),
            values=np.concatenate([tree.values for tree in trees]),
            roots=nodes[:-1].astype(np.int32),
            depth=max(int(estimator.tree_.max_depth) for estimator in model.estimators_),
        )

    def predict(self, features: Singles) -> Singles:
        """(n, F) -> (n, r)."""
        node = np.broadcast_to(self.roots, (len(features), len(self.roots)))
        prompt = np.arange(len(features))[:, None]
        for _ in range(self.depth):
            asked = self.feature[node]
            above = features[prompt, asked] > self.threshold[node]
            node = np.where(asked == _LEAF, node, self.left[node] + above)
        found: Singles = self.values[self.left[node]].mean(axis=1)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    """One tree in the form of `Forest`."""

    feature: NDArray[np.int32]
    threshold: Singles
    left: NDArray[np.int32]
    values: Singles

    @classmethod
    def of(cls, tree: Any) -> "_Tree":
        """Of scikit-learn's tree, its nodes in an order that puts both children of a node side by side."""
        inner, left, right = tree.children_left >= 0, tree.children_left, tree.children_right
        order = [0]
        for node in order:  # grows while it is read: breadth first
            if inner[node]:
                order += [int(left[node]), int(right[node])]
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        leaf = ~inner[order]
        rows = np.cumsum(leaf) - 1
        return cls(
            feature=np.where(leaf, _LEAF, tree.feature[order]).astype(np.int32),
            threshold=tree.threshold[order].astype(np.float32),
            left=np.where(leaf, rows, place[left[order]]).astype(np.int32),
            values=tree.value[order][leaf][:, :, 0].astype(np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """The forest, and the features that it sees: scores of level 2, form, and principal axes of the embedding.

    centre: (dim,), axes: (A, dim).
    """

    forest: Forest
    centre: Vectors
    axes: Vectors

    def predict(self, scores: Floats, x: Vectors, forms: Singles) -> Singles:
        """Of n prompts with the scores of level 2 (n, r), unit vectors (n, dim) and forms (n, FORM): (n, r)."""
        return self.forest.predict(features(scores, forms, (x - self.centre) @ self.axes.T))


def features(scores: Floats, forms: Singles, along: Floats) -> Singles:
    """(n, F), float32, of scores (n, r), forms (n, FORM) and coordinates along the axes (n, A)."""
    return np.ascontiguousarray(np.concatenate([scores, forms, along], axis=1, dtype=np.float32))


def principal(x: Vectors) -> tuple[Vectors, Vectors]:
    """Centre (dim,) and at most AXES principal axes (A, dim) of vectors (N, dim), the longest last."""
    from scipy.linalg import eigh

    centre = x.mean(axis=0)
    dim = x.shape[1]
    covariance = np.cov(x, rowvar=False, dtype=np.float64)
    _, axes = eigh(covariance, subset_by_index=[max(0, dim - AXES), dim - 1])
    return centre, np.ascontiguousarray(axes.T, np.float32)
