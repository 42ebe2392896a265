"""Rubrics: how scores of dimensions become one, and how its weights are learned."""

import numpy as np
import pytest

from aggregators.rubric import DEFAULT, Dimension, Rubric, fit_weights

TWO = (Dimension("a", "?"), Dimension("b", "?"))


def test_the_total_is_a_weighted_mean() -> None:
    assert Rubric(TWO).total({"a": 10, "b": 1}) == pytest.approx(5.5)
    assert Rubric(TWO, (3.0, 1.0)).total({"a": 10, "b": 2}) == pytest.approx(8.0)
    assert DEFAULT.total(dict.fromkeys(("correctness", "completeness", "clarity"), 10)) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("dimensions", "weights"),
    [((), None), (TWO, (1.0,)), (TWO, (0.0, 0.0)), (TWO, (1.0, -1.0)), ((*TWO, Dimension("A", "?")), None)],
)
def test_what_cannot_be_a_rubric_is_refused(
    dimensions: tuple[Dimension, ...], weights: tuple[float, ...] | None
) -> None:
    with pytest.raises(ValueError, match="a rubric needs"):
        Rubric(dimensions, weights)


def judged(questions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three drafts a question, one right: the first dimension sees it, the second is noise, the third likes the wrong
    ones. A question's difficulty moves all scores, and must not matter."""
    rng = np.random.default_rng(seed)
    right = np.tile([1.0, 0.0, 0.0], questions)
    difficulty = np.repeat(rng.normal(0, 2, questions), 3)
    signs = np.array([2.0, 0.0, -1.0])
    scores = 5 + difficulty[:, None] + right[:, None] * signs + rng.normal(0, 1, (3 * questions, 3))
    return np.clip(scores, 1, 10), right, np.repeat(np.arange(questions), 3)


def test_the_dimension_that_tells_right_from_wrong_gets_the_weight() -> None:
    weights = fit_weights(*judged(300))
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] > 0.8
    assert weights[2] == pytest.approx(0.0, abs=0.02)


def test_few_judgements_move_the_weights_little() -> None:
    few, many = fit_weights(*judged(4)), fit_weights(*judged(300))
    assert 1 / 3 < few[0] < many[0]
    assert min(few) >= 0


def test_judgements_that_say_nothing_leave_equal_weights() -> None:
    scores, right, questions = judged(20)
    assert fit_weights(np.full_like(scores, 5.0), right, questions) == pytest.approx((1 / 3,) * 3)
    assert fit_weights(11 - scores, right, questions)[0] <= 1 / 3 + 1e-9
    assert fit_weights(scores, np.zeros_like(right), questions) == pytest.approx((1 / 3,) * 3)


def test_they_are_shrunk_towards_given_weights() -> None:
    prior = (0.2, 0.2, 0.6)
    scores, right, questions = judged(4)
    few, equal = fit_weights(scores, right, questions, prior), fit_weights(scores, right, questions)
    assert few[2] > equal[2]
    assert fit_weights(np.full_like(scores, 5.0), right, questions, (1, 1, 3)) == pytest.approx(prior)
