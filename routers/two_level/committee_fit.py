"""How committees are chosen and their weights learned, from the answers of labelled prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from routers.labelled.data import Labelled
from routers.labelled.replay import coded
from routers.two_level.committee import Bench, Committees, Floats, Indices, Mask
from routers.two_level.subset_search import Subset, best_subset

SIZES = (3, 4, 5, 6, 7, 8)
"""Sizes that get committees of their own; of two the heavier one decides alone."""

VOTERS = 16
"""Experts that committees are made of at most: those with the best scores on the whole and in the categories."""

PENALTIES = (10.0, 30.0, 100.0, 1000.0)
TOGETHER = (100.0, 400.0, np.inf)
"""Prompts that the vote on all categories counts for when a category chooses its committee."""

PATIENCE = 300
"""Committees that are tried for a category after which the best so far must do."""

LEAST_VOTES = 50
"""Prompts with a right answer that are needed to learn from."""

_HARDLY = 1e-2


@dataclass(frozen=True, eq=False)
class Ballots:
    """What m voters answered on n prompts.

    codes: (n, m), equal numbers for equal answers, -1 for none. right: (n, m), is the answer right?
    """

    codes: Indices
    right: Mask

    @cached_property
    def same(self) -> Mask:
        """(n, m, m): did both give the same answer?"""
        same: Mask = (self.codes[:, :, None] == self.codes[:, None, :]) & (self.codes >= 0)[:, :, None]
        return same

    def of(self, voters: Sequence[int] | Indices) -> "Ballots":
        return Ballots(self.codes[:, voters], self.right[:, voters])

    def at(self, prompts: Indices) -> "Ballots":
        return Ballots(self.codes[prompts], self.right[prompts])

    def likelihood(self, weights: Floats) -> tuple[Floats, Floats]:
        """With weights (n, m): -log P(right answer) (n,), for prompts that have one, and P of each voter's answer."""
        same, n = self.same.astype(np.float64), len(self.codes)
        utility = np.einsum("nij,nj->ni", same, weights)
        # An answer that several gave is one candidate.
        logits = np.where(self.codes >= 0, utility - np.log(np.maximum(same.sum(axis=2), 1)), -np.inf)
        top = logits.max(axis=1, keepdims=True)
        powers = np.exp(logits - top)
        total = powers.sum(axis=1, keepdims=True)
        surprise = (np.log(total) + top)[:, 0] - utility[np.arange(n), self.right.argmax(axis=1)]
        return surprise, np.einsum("nij,nj->ni", same, powers / total)

    def won(self, weights: Floats) -> Mask:
        """(n,): does the right answer win with these weights (n, m) or (m,)?"""
        each = np.broadcast_to(weights, self.right.shape)
        support = np.einsum("nij,nj->ni", self.same, each)
        # The heaviest single vote breaks ties, as in the aggregator.
        support = np.where(self.codes >= 0, support + 1e-6 * each, -1.0)
        won: Mask = self.right[np.arange(len(support)), support.argmax(axis=1)]
        return won


def learn_weights(ballots: Ballots, features: Floats, penalty: float) -> Floats:
    """(F, m): the weights of n prompts are features (n, F) @ it, where negative 0.

    The first feature is the constant one and has hardly any penalty.
    """
    from scipy.optimize import minimize

    useful = np.flatnonzero(ballots.right.any(axis=1))
    ballots, features = ballots.at(useful), features[useful]
    n, m = ballots.right.shape
    rows = features.shape[1]
    start: Floats = np.concatenate([np.ones((1, m)), np.zeros((rows - 1, m))])
    penalties = np.full((rows, 1), penalty)
    penalties[0] = _HARDLY
    right = ballots.right.astype(np.float64)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(rows, m)
        surprise, chance = ballots.likelihood(features @ weights)
        slope: Floats = features.T @ np.where(ballots.codes >= 0, chance - right, 0.0) + penalties * weights
        value = float(surprise.sum() + (penalties * weights**2).sum() / 2)
        return value / n, np.asarray(slope / n, np.float64).ravel()

    if not n:
        return start
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    weights: Floats = np.asarray(found, np.float64).reshape(rows, m)
    return weights


def fit_committees(
    data: Labelled, y: Indices, rows: int, folds: Sequence[tuple[Indices, Indices]]
) -> Committees | None:
    """Committees of the experts of `data`; None where nothing can be learned: no answers, or fewer than 3 experts.

    y: (n,), the category of each prompt, a row in 0..rows-1, or -1 for none. folds: (train, test), for what is chosen.
    Chosen are, by votes on held-out prompts, the penalty of the weights of a category and how much of its committee a
    category shares with all; then each size gets its committees from all prompts.
    """
    if data.answers is None or data.gold is None or len(data.experts) < SIZES[0]:
        return None
    known = np.array([gold is not None for gold in data.gold])
    voters = _voters(data, y, rows)
    gold = np.array([gold or "" for gold in data.gold], object)
    codes = coded(np.column_stack([data.answers[:, voters], gold]), str.strip)
    right = (codes[:, :-1] == codes[:, -1:]) & (codes[:, :-1] >= 0) & known[:, None]
    if right.any(axis=1).sum() < LEAST_VOTES:
        return None
    choice = _Choice(Ballots(codes[known, :-1], right[known]), y[known], rows)
    place = np.cumsum(known) - 1
    parts = [(place[train[known[train]]], place[test[known[test]]]) for train, test in folds]
    penalty = _best(PENALTIES, lambda penalty: -_surprise(choice, parts, penalty))
    trained = [(choice.at(train), test) for train, test in parts]
    together = _best(TOGETHER, lambda together: _held_out_votes(choice, trained, penalty, together))
    sizes = [k for k in SIZES if k < len(voters)]
    benches = {k: choice.bench(k, penalty, together) for k in sizes}
    everyone = choice.bench(len(voters), penalty, together)
    return Committees(
        {k: Bench(voters[bench.members], bench.weights, bench.of_row) for k, bench in benches.items()},
        Bench(voters[everyone.members], everyone.weights, everyone.of_row),
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """Ballots of n prompts, the category of each (-1 = none), the number of categories.

    won: committee -> (n,), the votes that it wins with weights for all categories; filled as committees are tried.
    """

    ballots: Ballots
    y: Indices
    rows: int
    won: dict[Subset, Mask] = field(default_factory=dict)

    def at(self, prompts: Indices) -> "_Choice":
        return _Choice(self.ballots.at(prompts), self.y[prompts], self.rows)

    @cached_property
    def features(self) -> Floats:
        """(n, 1 + rows): the constant one, and one for the category."""
        return np.column_stack([np.ones(len(self.y)), np.eye(self.rows + 1)[self.y][:, : self.rows]])

    def bench(self, k: int, penalty: float, together: float) -> Bench:
        """The committees of k voters, with their weights."""
        members = self._members(k, together)
        distinct = sorted(set(members))
        weights = []
        for committee in distinct:
            learned = learn_weights(self.ballots.of(committee), self.features, penalty)
            weights.append(np.maximum(learned[0] + learned[1:], 0.0))
        of_row = np.array([distinct.index(committee) for committee in members])
        return Bench(np.array(distinct), np.array(weights), of_row)

    def _members(self, k: int, together: float) -> list[Subset]:
        """The committee of each category."""
        voters = self.ballots.right.shape[1]
        promising = np.argsort(-self.ballots.right.mean(axis=0), kind="stable").tolist()
        if k == voters:
            return [tuple(range(voters))] * self.rows
        here = [self.y == row for row in range(self.rows)]

        def votes(subset: Subset) -> Mask:
            if subset not in self.won:
                ballots = self.ballots.of(subset)
                weights = learn_weights(ballots, np.ones((len(self.y), 1)), 0.0)[0]
                self.won[subset] = ballots.won(np.maximum(weights, 0.0))
            return self.won[subset]

        def best(prompts: Mask | None) -> Subset:
            """Of all prompts, or those of a category and all others for `together` more."""
            n = 0 if prompts is None else int(prompts.sum())

            def mean(each: Mask) -> float:
                if prompts is None or not n:
                    return float(each.mean())
                return float((each[prompts].sum() + together * each.mean()) / (n + together))

            found = best_subset(
                promising,
                k,
                lambda subset: mean(votes(subset)),
                lambda chosen, rest: mean(np.asarray(self.ballots.right[:, [*chosen, *rest]].any(axis=1))),
                patience=PATIENCE,
            )
            assert found is not None  # there are no limits
            return found

        everywhere = best(None)
        return [everywhere if np.isinf(together) or not prompts.any() else best(prompts) for prompts in here]


def _voters(data: Labelled, y: Indices, rows: int) -> Indices:
    """The columns of the experts that may vote: the best on the whole, and of each category in turn."""
    order = [np.argsort(-data.means(), kind="stable")]
    for row in range(rows):
        here = data.scores[y == row]
        measured = ~np.isnan(here)
        means = np.where(measured, here, 0.0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
        order.append(np.argsort(-means, kind="stable"))
    found: dict[int, None] = {}
    for place in range(len(data.experts)):
        for ranking in order:
            found.setdefault(int(ranking[place]))
            if len(found) == VOTERS:
                return np.sort(np.array(list(found)))
    return np.sort(np.array(list(found)))


def _best(options: Sequence[float], score: Callable[[float], float]) -> float:
    """The option of the highest score, the last one of equals."""
    return max(reversed(options), key=score)


def _surprise(choice: _Choice, folds: Sequence[tuple[Indices, Indices]], penalty: float) -> float:
    """Of the right answers of held-out prompts, with all voters."""
    total = 0.0
    for train, test in folds:
        learned = learn_weights(choice.ballots.at(train), choice.features[train], penalty)
        useful = test[choice.ballots.right[test].any(axis=1)]
        weights = np.maximum(choice.features[useful] @ learned, 0.0)
        total += float(choice.ballots.at(useful).likelihood(weights)[0].sum())
    return total


def _held_out_votes(
    choice: _Choice, trained: Sequence[tuple[_Choice, Indices]], penalty: float, together: float
) -> float:
    """Votes of three that are won on held-out prompts; trained: the other prompts, and these."""
    total = 0.0
    for others, test in trained:
        bench = others.bench(SIZES[0], penalty, together)
        for committee, members in enumerate(bench.members):
            of_it = test[bench.of_row[choice.y[test]] == committee]
            weights = bench.weights[committee][choice.y[of_it]]
            total += float(choice.ballots.at(of_it).of(members).won(weights).sum())
    return total
