"""The two-level router: prompt -> category -> experts (Composition of Experts, arXiv 2412.01868). See docs/routing.md.

    prompt --encoder--> unit vector --logistic regression--> p(category) --Q[category, expert]--> choices
                             |                                   |
                             far from all training prompts, or unsure: the general category

Fitting is in `fit` (from categories and their measured quality) and `learn` (from labelled prompts), judging in
`model`, files are in `file`; deciding needs numpy and the encoder only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from routers.base import Choice, Route, distinct
from routers.encoders.base import Encoder
from routers.labelled.data import Labelled
from routers.two_level.add import with_category
from routers.two_level.committee import worth
from routers.two_level.file import read, write
from routers.two_level.fit import SHRINKAGE, Budgets, Quality, embed, fit
from routers.two_level.learn import learn
from routers.two_level.level1 import Floats, Indices, Mask
from routers.two_level.level1_fit import Doubt
from routers.two_level.model import Fitted, Judgement

TOP = 5
"""Categories whose probability a route tells."""

BATCH = 256


@dataclass(frozen=True, slots=True)
class _Pool:
    """Who may answer.

    known: columns of the measured candidates, the best on the whole first; mask: (E,), the same.
    strangers: candidates that were never measured, in the caller's order.
    """

    known: Indices
    mask: Mask
    strangers: tuple[str, ...]


class TwoLevelRouter:
    """Implements `routers.base.Router`. Made by `fit`, `fit_labelled` or `load`.

    One expert: the one with the best expected score, unless a plan or the fallback puts another one first. Candidates
    that were never measured come after all that were.
    Several: where the answers of the experts were known to `fit_labelled`, the committee that votes best, with the
    weights that were learned for it. Else the k best, each with the weight -log(1 - score): what its word is worth in
    a vote, near the log-odds for good experts and never negative. An expert that stands before better ones gets the
    best one's weight, so that weights never rise along a route.
    """

    name = "two-level"

    def __init__(self, fitted: Fitted, encoder: Encoder, aggregator: str = "vote") -> None:
        """aggregator: what makes one answer of the drafts when a route has several choices."""
        self._fitted = fitted
        self._encoder = encoder
        self._aggregator = aggregator
        self._columns = {expert: i for i, expert in enumerate(fitted.experts)}

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts with measured quality."""
        return self._fitted.experts

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories, the general one included."""
        return self._fitted.rows

    @property
    def figures(self) -> dict[str, float]:
        """What was seen on held-out prompts when the router was fitted."""
        return dict(self._fitted.level1.figures)

    @property
    def encoder(self) -> str:
        """The name of that which it reads prompts with."""
        return self._encoder.name

    def quality(self, category: str, expert: str) -> float:
        """Q[category, expert] in [0, 1]. Raises KeyError or ValueError for unknown names."""
        return float(self._fitted.level2.quality[self._fitted.rows.index(category), self._columns[expert]])

    # Deciding

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`."""
        return self.route_scored(prompts, candidates, k)[0]

    def route_scored(self, prompts: Sequence[str], candidates: Sequence[str], k: int) -> tuple[list[Route], Floats]:
        """`route_many` and `predict` for the price of one."""
        pool = self._pool(candidates, k)
        routes: list[Route] = []
        scores = [np.zeros((0, len(self._fitted.experts)))]
        for start in range(0, len(prompts), BATCH):
            seen = self._judge(prompts[start : start + BATCH])
            routes += [self._decide(seen, i, pool, k) for i in range(len(seen.row))]
            scores.append(seen.scores)
        return routes, np.concatenate(scores)

    def first_many(self, prompts: Sequence[str], candidates: Sequence[str]) -> list[str]:
        """See `routers.base.Firsts`."""
        pool, fitted = self._pool(candidates, 1), self._fitted
        found: list[str] = []
        for start in range(0, len(prompts), BATCH):
            seen = self._judge(prompts[start : start + BATCH])
            if not len(pool.known):
                found += [pool.strangers[0]] * len(seen.row)
                continue
            best = pool.known[seen.scores[:, pool.known].argmax(axis=1)]
            first = fitted.level2.first[seen.row]
            chosen = np.where((first >= 0) & pool.mask[first], first, best)
            found += [fitted.experts[column] for column in chosen]
        return found

    def _pool(self, candidates: Sequence[str], k: int) -> _Pool:
        allowed, typical = distinct(candidates, k), self._fitted.typical
        mask = np.array([name in allowed for name in self._fitted.experts])
        strangers = tuple(expert for expert in allowed if expert not in self._columns)
        return _Pool(typical[mask[typical]], mask, strangers)

    def predict(self, prompts: Sequence[str]) -> Floats:
        """The expected score of each of `experts` on each prompt: (n, E) in [0, 1]."""
        batches = [self._judge(prompts[start : start + BATCH]).scores for start in range(0, len(prompts), BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, len(self.experts)))

    def explain(self, prompt: str) -> str:
        """One line: what the prompt was taken for, how sure that is, and the scores that are expected."""
        seen = self._judge([prompt])
        why, _, _ = self._why(seen, 0)
        best = np.argsort(-seen.scores[0], kind="stable")[:TOP]
        scores = ", ".join(f"{self.experts[i]} {seen.scores[0, i]:.2f}" for i in best)
        return f"{why}; expected scores: {scores}; {self._strangeness(seen, 0)}"

    def _judge(self, prompts: Sequence[str]) -> Judgement:
        return self._fitted.judge(self._encoder.encode(prompts), prompts)

    def _decide(self, seen: Judgement, i: int, pool: _Pool, k: int) -> Route:
        fitted = self._fitted
        why, probable, margin = self._why(seen, i)
        choices, which = self._choose(seen, i, pool, k)
        return Route(
            choices=choices,
            reason=f"{why}: {which}",
            router=self.name,
            category=fitted.general if seen.far[i] or seen.unsure[i] else fitted.rows[seen.row[i]],
            probabilities=probable,
            margin=margin,
            aggregator=self._aggregator if len(choices) > 1 else "single",
        )

    def _why(self, seen: Judgement, i: int) -> tuple[str, dict[str, float], float]:
        """In words what the prompt was taken for; the largest probabilities; the margin of the first."""
        fitted, p = self._fitted, seen.p[i]
        order = np.argsort(-p, kind="stable")
        probable = {fitted.categories[c]: float(p[c]) for c in order[:TOP]}
        margin = float(p[order[0]] - p[order[1]]) if len(order) > 1 else 1.0
        if seen.far[i]:
            why = f"far from everything known ({self._strangeness(seen, i)})"
        elif seen.unsure[i]:
            leading = " or ".join(f"{name} ({_percent(share)})" for name, share in list(probable.items())[:2])
            why = f"unsure: {leading} ({self._strangeness(seen, i)})"
        else:
            why = f"{fitted.categories[order[0]]} ({_percent(float(p[order[0]]))})"
        return why, probable, margin

    def _strangeness(self, seen: Judgement, i: int) -> str:
        level1 = self._fitted.level1
        return (
            f"distance {seen.distance[i]:.2f}, limit {level1.distance.limit:.2f}; "
            f"entropy {seen.entropy[i]:.2f}, limit {level1.entropy.limit:.2f}"
        )

    def _choose(self, seen: Judgement, i: int, pool: _Pool, k: int) -> tuple[tuple[Choice, ...], str]:
        """The choices, and in words which expert is first and why."""
        fitted, scores, row = self._fitted, seen.scores[i], int(seen.row[i])
        ranked = pool.known[np.argsort(-scores[pool.known], kind="stable")]
        first = int(fitted.level2.first[row])
        if first in ranked:
            ranked = np.concatenate([[first], ranked[ranked != first]])
        if k == 1 and len(ranked):
            name = fitted.experts[ranked[0]]
            return (Choice(name, 1.0),), self._which(scores, row, ranked, name)
        chosen, weights = self._committee(seen, i, pool, k)
        together = len(chosen) > 0
        if not together:
            chosen, weights = ranked[:k], worth(scores[ranked[:k]])
        elif len(chosen) < k:  # filled up by the best of the others, which have less to say than the least member
            others = ranked[~np.isin(ranked, chosen)][: k - len(chosen)]
            weights = np.concatenate([weights, np.minimum(worth(scores[others]), weights.min())])
            chosen = np.concatenate([chosen, others])
        names = [fitted.experts[column] for column in chosen]
        names += pool.strangers[: k - len(names)]
        least = min(worth(scores).min(), weights.min(initial=np.inf))
        weights = np.concatenate([weights, np.full(len(names) - len(weights), least)])
        weights = np.maximum.accumulate(weights[::-1])[::-1]
        total = weights.sum()
        weights = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
        choices = tuple(Choice(name, float(weight)) for name, weight in zip(names, weights, strict=True))
        if together:
            return choices, f"{', '.join(names)} vote best together"
        which = self._which(scores, row, ranked, names[0])
        if len(names) > 1:
            which += f"; also asked: {', '.join(names[1:])}"
        return choices, which

    def _committee(self, seen: Judgement, i: int, pool: _Pool, k: int) -> tuple[Indices, Floats]:
        """Who votes best together on a prompt, the heaviest first; nobody where that was not learned."""
        fitted = self._fitted
        if k < 2 or fitted.committees is None:
            return np.zeros(0, np.intp), np.zeros(0)
        row = int(seen.row[i])
        shares = np.zeros(len(fitted.rows))
        if seen.general[i]:
            shares[row] = 1.0
        else:
            shares[: len(fitted.categories)] = seen.p[i]
        return fitted.committees.choose(row, shares, pool.mask, k)

    def _which(self, scores: Floats, row: int, ranked: Indices, first: str) -> str:
        """In words why `first` is first."""
        fitted = self._fitted
        general = fitted.rows[row] == fitted.general
        wanted = int(fitted.level2.first[row])
        if wanted < 0:
            wanted = int(np.lexsort((np.argsort(fitted.typical), -scores))[0])
        best = fitted.experts[wanted]
        if not len(ranked):
            return f"{first}, since no candidate was measured"
        if first != best:
            missing = "the generalist " if general and best == fitted.fallback else ""
            return f"{missing}{best} is not available, {first} is the best of the {len(ranked)} that are"
        if general and not fitted.level2.mixture:
            return f"generalist {first}"
        if scores[wanted] < scores[ranked].max():
            return f"{first} is planned for this category"
        if fitted.level2.mixture:
            return f"{first} is expected to do best of {len(ranked)} ({scores[wanted]:.2f})"
        return f"{first} is the best of {len(ranked)} for this category"

    # Fitting

    @classmethod
    def fit(
        cls,
        prompts: Sequence[str],
        categories: Sequence[str],
        quality: Quality,
        encoder: Encoder,
        general: str = "general",
        seed: int = 0,
        *,
        fallback: str | None = None,
        doubt: Doubt | None = None,
        shrinkage: float = SHRINKAGE,
        prior: Mapping[str, float] | None = None,
        budgets: Budgets | None = None,
        aggregator: str = "vote",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Learns a router from prompts and what was measured elsewhere; the same input and seed give the same one.

        prompts, categories: training prompts and their categories, at least 10 of each category that occurs.
        quality: category -> expert -> (mean score in [0, 1], number of items). Every category of `prompts` but the
            general one needs an entry; an expert that is missing from a category counts as not measured there.
        general: category of prompts that belong to no specialist. It may have training prompts and quality or not.
        fallback: the expert of the general category; None = the best one by quality.
        doubt: when a prompt goes to the general category.
        shrinkage: lambda, in items: how many measured items the expert's overall mean is worth.
        prior: category -> share of requests; None = the shares of the training prompts.
        budgets: what a plan must keep, whose expert of a category is then its first choice.
        on_progress: called with (prompts embedded, prompts).
        Raises ValueError (PlanError for budgets that cannot be met).
        """
        fitted = fit(
            prompts,
            categories,
            quality,
            encoder,
            general=general,
            seed=seed,
            fallback=fallback,
            doubt=doubt or Doubt(),
            shrinkage=shrinkage,
            prior=prior,
            budgets=budgets or Budgets(),
            on_progress=on_progress,
        )
        return cls(fitted, encoder, aggregator)

    @classmethod
    def fit_labelled(
        cls,
        data: Labelled,
        encoder: Encoder,
        *,
        seed: int = 0,
        general: str = "general",
        doubt: Doubt | None = None,
        budgets: Budgets | None = None,
        aggregator: str = "vote",
    ) -> Self:
        """Learns a router from labelled prompts, which are all that it sees; the same data and seed give the same one.

        Categories of fewer than 10 prompts get no row of their own. Without categories there are clusters of similar
        prompts. The shrinkage, a second stage, and committees where answers and gold are known are chosen on held-out
        folds of `data`; `figures` says what was seen there.
        general: where far and unsure prompts go; a category of the data, or all of them together.
        doubt, budgets: see `fit`.
        Raises ValueError (PlanError for budgets that cannot be met).
        """
        fitted = learn(data, encoder, general=general, seed=seed, doubt=doubt or Doubt(), budgets=budgets or Budgets())
        return cls(fitted, encoder, aggregator)

    def add_category(
        self, name: str, prompts: Sequence[str], scores: NDArray[np.float64], shrinkage: float = SHRINKAGE
    ) -> Self:
        """A router with one more category, without fitting the rest again; see `add.with_category`.

        prompts: at least 10. scores: (len(prompts), E) of `experts` in [0, 1], nan = not measured.
        Raises ValueError.
        """
        x = embed(prompts, self._encoder)
        fitted = with_category(self._fitted, name, prompts, x, np.asarray(scores), shrinkage)
        return type(self)(fitted, self._encoder, self._aggregator)

    def save(self, folder: Path) -> None:
        """Writes `router.json` and `router.npz` into `folder`, which is made if need be."""
        write(self._fitted, folder)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, aggregator: str = "vote") -> Self:
        """The router that `save` wrote. Raises RouterFileError."""
        return cls(read(folder, encoder), encoder, aggregator)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
