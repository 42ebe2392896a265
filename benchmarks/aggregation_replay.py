"""Votes on a labelled set without asking anyone: the stored answers, counted as the service counts drafts.

Each expert's answer to each prompt is stored once. So votes of different experts can be replayed, and self-consistency
cannot: k samples of one expert would be needed, and k greedy ones are the same one k times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aggregators.answers import extract
from aggregators.ballot import Ballot
from benchmarks.routed import SEED, Case
from routers.evaluation.decisions import Decided, Floats, Indices, decide, scored
from routers.evaluation.evaluate import category_means, evaluate
from routers.evaluation.measures import intervals
from routers.evaluation.patience import PATIENCES
from routers.fitted import FittedRouter
from routers.labelled.data import Labelled
from routers.labelled.replay import coded, winners

SEATS = 5
"""Experts of the vote whose calls are saved."""
ALWAYS = (3, 5)
"""Experts of the votes in which all are asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """What a way to answer got on n prompts, each (n,): scores in [0, 1], calls, and waves that follow each other."""

    name: str
    scores: Floats
    calls: Floats
    waves: Floats

    @classmethod
    def at_once(cls, name: str, scores: Floats, calls: float) -> "Method":
        return cls(name, scores, np.full(len(scores), calls), np.ones(len(scores)))


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A set. methods: by key, `best_single` and `dynamic` among them. hindsight: (n,), scores of the expert that is
    best on the judged prompts themselves. curves: seats -> (mean calls, mean score) by falling patience."""

    name: str
    methods: dict[str, Method]
    hindsight: Floats
    patience: float
    curves: dict[int, list[tuple[float, float]]]

    def lead(self, key: str, over: Floats) -> tuple[float, float, float]:
        """Mean lead of a method over scores (n,), with the ends of its 95 % interval (paired bootstrap), in points."""
        lead = 100 * (self.methods[key].scores - over)
        [[low, high]] = intervals(lead[:, None], seed=SEED)
        return float(lead.mean()), float(low), float(high)


def replay(router: FittedRouter, case: Case) -> Replay:
    """All methods on the judged prompts of a set that has answers. router: fitted on the others."""
    data = case.test
    found = evaluate(router, data, normalise=extract, seed=SEED)
    votes = decide(router, data, extract, sizes=range(2, len(data.experts) + 1))
    patience = router.facts.chosen.patience
    methods = {"best_single": Method.at_once("best single expert", found.methods["best_single"], 1)}
    if "category_oracle" in found.methods:
        methods["category_best"] = Method.at_once("best of the prompt's category", found.methods["category_oracle"], 1)
    methods["router_top_1"] = Method.at_once("router's first choice", found.methods["default"], 1)
    for k in ALWAYS:
        methods[f"plain_{k}"] = Method.at_once(f"best {k} of the category, equal votes", _plain(router, data, k), k)
        methods[f"vote_{k}"] = Method.at_once(f"vote of the router's {k}", scored(data, votes.voted[k]), k)
    seats = _Seats(data, votes)
    methods["certain"] = seats.in_waves(f"the same {SEATS} in waves, until certain", SEATS, 1.0)
    methods["dynamic"] = seats.in_waves(f"the same {SEATS} in waves, patience {patience:g}", SEATS, patience)
    curves = {k: list(_points(seats, k)) for k in sorted({*ALWAYS, 7, len(data.experts)} & votes.asked.keys())}
    best = int(data.means().argmax())
    return Replay(case.name, methods, data.scores[:, best], patience, curves)


def _plain(router: FittedRouter, data: Labelled, k: int) -> Floats:
    """Scores of a vote that nobody learned: the k experts with the best means in the prompt's true category."""
    expected = np.where(data.measured, category_means(router.facts, data), -1.0)
    chosen: Indices = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(data.measured, chosen, axis=1) / k
    assert data.answers is not None
    return scored(data, winners(coded(data.answers, extract), chosen, weights))


class _Seats:
    """Routes of the judged prompts as the aggregator sees them."""

    def __init__(self, data: Labelled, votes: Decided) -> None:
        assert data.answers is not None
        self._data, self._votes = data, votes
        self._said = [[None if text is None else extract(text) for text in row] for row in data.answers.tolist()]

    def in_waves(self, name: str, k: int, patience: float) -> Method:
        """k experts asked by the rule of `aggregators.ballot`, each wave when the one before is in."""
        asked, weights = self._votes.asked[k].tolist(), self._votes.weights[k].tolist()
        rows = [
            self._one(said, experts, own, patience)
            for said, experts, own in zip(self._said, asked, weights, strict=True)
        ]
        chosen, calls, waves = np.array(rows, np.intp).T
        return Method(name, scored(self._data, chosen), calls.astype(np.float64), waves.astype(np.float64))

    @staticmethod
    def _one(
        said: Sequence[str | None], experts: Sequence[int], weights: Sequence[float], patience: float
    ) -> tuple[int, int, int]:
        """(expert whose answer wins, calls, waves)."""
        asked = waves = 0
        ballot = Ballot(weights, {})
        while asked < len(experts) and not ballot.is_decided(asked, patience):
            asked = ballot.wanted(asked, patience)
            ballot = Ballot(weights, {rank: said[experts[rank]] for rank in range(asked)})
            waves += 1
        return experts[ballot.winner or 0], asked, waves


def _points(seats: _Seats, k: int) -> Iterator[tuple[float, float]]:
    for patience in PATIENCES:
        found = seats.in_waves("", k, patience)
        yield float(found.calls.mean()), float(found.scores.mean())
