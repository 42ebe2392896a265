"""Scores from the experts' agreement alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from experts.profile_consensus import consensus

Texts = NDArray[np.object_]


def answers_of(accuracies: list[float], n: int, options: int, seed: int) -> tuple[Texts, NDArray[np.bool_]]:
    """(answers, which of them are right): each expert is right with its own probability, else wrong at random."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, len(accuracies))) < np.array(accuracies)
    wrong = rng.integers(1, options, right.shape)
    return np.where(right, "0", wrong.astype(str)).astype(object), right


def everywhere(answers: Texts) -> NDArray[np.bool_]:
    return np.ones(answers.shape, bool)


def test_reliability_is_found_without_gold() -> None:
    accuracies = [0.9, 0.75, 0.6, 0.5, 0.4]
    answers, right = answers_of(accuracies, 2000, 5, seed=1)
    found = consensus(answers, everywhere(answers))
    agreed = found.agreement > 0
    measured, estimated = right[agreed].mean(axis=0), found.scores[agreed].mean(axis=0)
    assert np.argsort(-found.reliability).tolist() == np.argsort(-estimated).tolist() == [0, 1, 2, 3, 4]
    assert (estimated < measured + 0.02).all(), "rather less than more"
    assert (estimated > measured - 0.15).all()


def test_mistakes_that_are_shared_make_the_consensus_less_sure() -> None:
    apart, right = answers_of([0.6] * 6, 1000, 10, seed=7)
    together = np.where(right, "0", "1").astype(object)  # each question has one tempting mistake
    free, bound = consensus(apart, everywhere(apart)), consensus(together, everywhere(together))
    assert free.dependence < 0.25
    assert bound.dependence > 0.5

    def sure(scores: NDArray[np.float64]) -> float:
        return float(np.nanmean(np.abs(scores - 0.5)))

    assert sure(bound.scores) < sure(free.scores) - 0.1


def test_one_sure_expert_counts_more_than_two_that_guess() -> None:
    answers, right = answers_of([0.95, 0.95, 0.9, 0.3, 0.3, 0.3], 1000, 4, seed=2)
    found = consensus(answers, everywhere(answers))
    best = np.nanargmax(np.where(np.isnan(found.scores), -1, found.scores), axis=1)
    chosen = right[np.arange(len(right)), best]
    votes = np.array([max(set(row), key=row.tolist().count) == "0" for row in answers])
    agreed = found.agreement > 0
    assert chosen[agreed].mean() > votes[agreed].mean()


def test_scores_are_probabilities_that_mean_what_they_say() -> None:
    answers, right = answers_of([0.8, 0.7, 0.6, 0.6], 4000, 4, seed=3)
    found = consensus(answers, everywhere(answers))
    known = ~np.isnan(found.scores)
    assert ((found.scores[known] >= 0) & (found.scores[known] <= 1)).all()
    sure = known & (found.scores > 0.9)
    assert sure.any()
    assert right[sure].mean() > 0.9


def test_agreement_says_how_much_a_question_counts() -> None:
    answers = np.array(
        [
            ["a", "a", "a", "a"],
            ["a", "a", "a", "b"],
            ["a", "a", "b", "c"],
            ["a", "b", "c", "d"],
            ["a", None, None, None],
        ],
        dtype=object,
    )
    found = consensus(answers, everywhere(answers))
    assert found.agreement == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert np.isnan(found.scores[3:]).all(), "where no two agree there is no score"


def test_no_short_answer_is_wrong_and_not_asked_is_unknown() -> None:
    answers = np.array([["a", "a", "a", None]] * 5, dtype=object)
    asked = everywhere(answers)
    asked[0, 2] = False
    found = consensus(answers, asked)
    assert found.scores[:, 3].tolist() == [0.0] * 5
    assert np.isnan(found.scores[0, 2])
    assert (found.scores[1:, 2] > 0.5).all()


def test_questions_without_agreement_do_not_say_who_is_reliable() -> None:
    answers, _ = answers_of([0.8, 0.7, 0.6], 200, 4, seed=4)
    strangers = np.array([[f"{i}a", f"{i}b", f"{i}c"] for i in range(50)], dtype=object)
    both = np.concatenate([answers, strangers])
    alone, with_them = consensus(answers, everywhere(answers)), consensus(both, everywhere(both))
    assert with_them.reliability == pytest.approx(alone.reliability, abs=0.02)
    assert with_them.dependence < alone.dependence, "mistakes that differ are mistakes of one's own"


def test_it_takes_three() -> None:
    with pytest.raises(ValueError, match="at least 3 experts; got 2"):
        consensus(np.array([["a", "a"]], dtype=object), np.ones((1, 2), bool))
