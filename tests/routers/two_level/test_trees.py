"""The forest of the second stage predicts what scikit-learn's does, and comes back from its arrays or is refused."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from routers.encoders import lexical
from routers.two_level.parts import read_second, second_arrays, stages
from routers.two_level.second_stage import Looks, SecondStage
from routers.two_level.trees import (
    AXES,
    DEPTH,
    LEAST_OF_LEAF,
    SHARE_OF_FEATURES,
    TREES,
    Forest,
    Trees,
    features,
    principal,
)


def test_the_forest_predicts_what_its_source_does() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(300, 6)).astype(np.float32)
    targets = np.stack([known[:, 0] * known[:, 1] > 0, known[:, 2] > 0.5], axis=1).astype(np.float32)
    source = ExtraTreesRegressor(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAST_OF_LEAF, max_features=SHARE_OF_FEATURES, random_state=3
    ).fit(known, targets)
    forest = Forest.fit(known, targets, 3)
    new = rng.normal(size=(50, 6)).astype(np.float32)
    found = forest.predict(new)
    assert np.allclose(found, source.predict(new), atol=1e-6)
    assert np.allclose(np.concatenate([forest.predict(row[None]) for row in new]), found)
    assert np.corrcoef(found[:, 1], new[:, 2] > 0.5)[0, 1] > 0.8


def test_a_tree_without_questions_is_a_mean() -> None:
    targets = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]], np.float32)
    forest = Forest.fit(np.zeros((5, 2), np.float32), targets, 0)
    assert forest.depth == 0
    assert np.allclose(forest.predict(np.zeros((3, 2), np.float32)), [0.6, 0.4])


def test_axes_are_the_longest_ones() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 80)) * np.linspace(0.1, 2, 80)).astype(np.float32)
    centre, axes = principal(x)
    assert axes.shape == (AXES, 80)
    assert np.allclose(axes @ axes.T, np.eye(AXES), atol=1e-5)
    along = (x - centre) @ axes.T
    assert along.var() * AXES > 0.95 * x.var(axis=0).sum()
    assert (np.diff(along.var(axis=0)) > 0).all()
    assert principal(x[:, :3])[1].shape == (3, 3)


@pytest.fixture
def stage() -> SecondStage:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)).astype(np.float32)
    prompts = [f"{'what is' if i % 2 else 'tell of'} {i}" for i in range(60)]
    looks = Looks(
        np.zeros(lexical.BUCKETS, np.float32), np.zeros(lexical.FORM, np.float32), np.ones(lexical.FORM, np.float32)
    )
    centre, axes = principal(x)
    scores, forms = rng.random((60, 2)), looks.forms(prompts)
    forest = Forest.fit(features(scores, forms, (x - centre) @ axes.T), scores.astype(np.float32), 0)
    return SecondStage(
        np.eye(2, dtype=np.float32),
        np.zeros(2, np.float32),
        looks,
        1,
        trees=Trees(forest, centre, axes),
        trees_weight=0.5,
    )


def test_trees_come_back_from_their_arrays(stage: SecondStage) -> None:
    again = read_second(second_arrays(stage), stages(stage), 0, 2, 8)
    x, scores = np.ones((2, 8), np.float32), np.array([[0.1, 0.9], [0.5, 0.5]])
    refined = [
        one.refine(scores, np.ones((2, 1)), x, np.zeros((2, 0), np.float32), ["a", "b"]) for one in (stage, again)
    ]
    assert (refined[0] == refined[1]).all()
    assert not np.allclose(refined[0], scores)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("feature", 0, 9999),
        ("feature", 0, -2),
        ("left", 0, 0),
        ("left", 0, 10**6),
        ("left", -1, 10**6),
        ("roots", 0, -1),
    ],
)
def test_trees_that_lead_nowhere_are_refused(stage: SecondStage, name: str, place: int, value: int) -> None:
    arrays = second_arrays(stage)
    arrays[f"second_{name}"] = arrays[f"second_{name}"].copy()
    arrays[f"second_{name}"][place] = value
    with pytest.raises(ValueError, match="names a node, a leaf or a feature that does not exist"):
        read_second(arrays, stages(stage), 0, 2, 8)
