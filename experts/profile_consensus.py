"""Scores without gold: the right answer to a question is what the experts agree on, each counting for how sure it is.

Dawid and Skene 1979, with one parameter an expert, since every question has answers of its own: expert e gives the
right answer with probability p_e, and otherwise one of the wrong ones, all alike. The candidates of question i are the
answers that were given and "none of these", K_i in all. Expectation-maximisation alternates

    E   log T_i(a) = sum over the experts that gave a of  [log p_e - log((1 - p_e) / (K_i - 1))] / D_i  + constant
    M   p_e = (1 + sum_i w_i T_i(what e gave)) / (2 + sum_i w_i)

w_i is the agreement on question i: (size of its largest group of equal answers - 1) / (answers - 1). Where no two
experts agree nothing can be told: w_i = 0, and the question gives no score.

D_i = 1 + (answers - 1) rho is the design effect of a cluster (Kish 1965). Language models make the same mistakes, and
votes that are taken for independent make T far too sure. rho is how often two wrong answers to a question are equal,
each pair weighing by how surely both are wrong, estimated along with the rest. With few ways to be wrong some are equal
by chance, so it errs to the unsure side. What all experts get wrong alike still looks right: this measures agreement,
and the figures are marked as such.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 3
"""Experts that it takes: of two that differ nobody can say who is right."""
ITERATIONS, TOLERANCE = 500, 1e-7


@dataclass(frozen=True, slots=True)
class Consensus:
    """scores: (n, E), probability that the answer is right, 0 for an expert that gave none, nan if it was not asked or
    the question has no agreement. agreement: (n), in [0, 1], how much a question counts. reliability: (E), the p_e.
    dependence: rho, in [0, 1]."""

    scores: NDArray[np.float64]
    agreement: NDArray[np.float64]
    reliability: NDArray[np.float64]
    dependence: float


def consensus(answers: NDArray[np.object_], asked: NDArray[np.bool_]) -> Consensus:
    """answers: (n, E) of str | None, in a form in which equal answers are equal strings; None = no short answer.
    asked: (n, E). Raises ValueError for fewer than FEWEST experts."""
    n, experts = answers.shape
    if experts < FEWEST:
        raise ValueError(f"a consensus takes at least {FEWEST} experts; got {experts}")
    question, expert, group, first = _groups(answers, asked)
    sizes = np.bincount(group, minlength=len(first))
    given = np.bincount(question, minlength=n)
    largest = np.zeros(n, dtype=np.int64)
    np.maximum.at(largest, first, sizes)
    agreement = np.where(given > 1, (largest - 1) / np.maximum(given - 1, 1), 0.0)
    wrong = np.bincount(first, minlength=n)  # K - 1: the answers given, one of them may be right, and none of them
    weight = agreement[question]

    right = (sizes[group] == largest[question]).astype(float)  # to begin with, a plain majority
    reliability, rho = np.full(experts, 0.5), 0.0
    for _ in range(ITERATIONS):
        hits = np.bincount(expert, weight * right, minlength=experts)
        tries = np.bincount(expert, weight, minlength=experts)
        former, reliability = reliability, (1 + hits) / (2 + tries)
        rho = _shared(1 - right, group) / max(_shared(1 - right, question), 1e-9)
        design = 1 + (given - 1) * rho
        odds = np.log(reliability[expert]) - np.log((1 - reliability[expert]) / wrong[question])
        logits = np.bincount(group, odds / design[question], minlength=len(first)).astype(float)
        right = _posterior(logits, first, n)[group]
        if np.abs(reliability - former).max() < TOLERANCE:
            break

    scores = np.where(asked, 0.0, np.nan)
    scores[question, expert] = right
    scores[agreement == 0] = np.nan
    return Consensus(scores, agreement, reliability, rho)


def _groups(
    answers: NDArray[np.object_], asked: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each answer given: question, expert, and number of its group of equal answers; of each group: the question."""
    numbers: dict[tuple[int, str], int] = {}
    rows = [
        (i, e, numbers.setdefault((int(i), answers[i, e]), len(numbers)))
        for i, e in np.argwhere(asked)
        if answers[i, e] is not None
    ]
    question, expert, group = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return question, expert, group, np.array([i for i, _ in numbers], dtype=np.int64)


def _shared(weight: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """Sum over all pairs of one label of the product of their weights."""
    sums, squares = np.bincount(label, weight), np.bincount(label, weight**2)
    return float((sums**2 - squares).sum() / 2)


def _posterior(logits: NDArray[np.float64], first: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Softmax of each question's groups and of "none of these", whose logit is 0."""
    top = np.zeros(n)
    np.maximum.at(top, first, logits)
    powers = np.exp(logits - top[first])
    total = np.exp(-top) + np.bincount(first, powers, minlength=n)
    return powers / total[first]
