"""The patience of votes: as little as costs nothing on held-out prompts."""

import numpy as np

from routers.evaluation.decisions import Decided
from routers.evaluation.patience import LEAST_PROMPTS, PATIENCES, least_patience
from routers.labelled.data import Labelled

WEIGHTS = np.array([0.25, 0.25, 0.2, 0.2, 0.1])


def world(rows: list[str], copies: int) -> tuple[Labelled, Decided]:
    """Prompts whose right answer is A; a row is what five experts say, all of whom are asked."""
    answers = np.array([list(row) for row in rows * copies], object)
    n = len(answers)
    data = Labelled(
        ids=tuple(map(str, range(n))),
        prompts=tuple(map(str, range(n))),
        experts=("a", "b", "c", "d", "e"),
        scores=(answers == "A").astype(np.float64),
        answers=answers,
        gold=("A",) * n,
    )
    asked, weights = np.tile(np.arange(5), (n, 1)), np.tile(WEIGHTS, (n, 1))
    nobody = np.zeros(n, np.intp)
    return data, Decided(nobody, data.scores, (None,) * n, {5: asked}, {5: weights}, {5: nobody})


def test_where_the_first_two_are_never_overruled_they_are_enough() -> None:
    assert least_patience(*world(["AABCD", "AAABB", "BBACD"], 200)) == min(PATIENCES)


def test_where_the_others_overrule_the_first_two_they_are_asked() -> None:
    """Two of equal weight lead by 0.5 with 0.5 out: certain it is not, and here the vote is still open."""
    data, decided = world(["BBAAA", "AABBC"], 200)
    decided.weights[5][:] = [0.24, 0.24, 0.2, 0.2, 0.12]
    assert least_patience(data, decided) > 0.48 / 0.52


def test_a_few_prompts_prove_nothing() -> None:
    rows = ["AABCD", "AAABB", "BBACD"]
    data, decided = world(rows, (LEAST_PROMPTS - 1) // len(rows))
    assert least_patience(data, decided) == 1.0
