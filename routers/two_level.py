"""The two-level router: prompt -> category -> experts (Composition of Experts, arXiv 2412.01868). See docs/routing.md.

    prompt --encoder--> unit vector --logistic regression--> p(category) --Q[category, expert]--> choices
                             |                                   |
                             far from all training prompts, or unsure: the general category

Fitting is in `two_level_fit`, files are in `two_level_file`; deciding needs numpy and the encoder only.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from routers.base import Choice, NoCandidate, Route
from routers.encoder import Encoder, Vectors
from routers.two_level_file import Fitted, RouterFileError, read, write
from routers.two_level_fit import LEAST_PROMPTS, Floats, Quality, fit_level1, fit_level2

__all__ = ["RouterFileError", "TwoLevelRouter"]

TOP = 5
"""Categories whose probability a route tells."""

MAX_REFERENCES = 8192
"""Training prompts that distances are measured to; 12 MB with 384 dimensions, about a millisecond a prompt."""

BATCH = 256


@dataclass(frozen=True, slots=True)
class _Sight:
    """What level 1 saw of one prompt."""

    p: Floats
    entropy: float
    distance: float


class TwoLevelRouter:
    """Implements `routers.base.Router`. Made by `fit` or `load`.

    Experts are ranked by Q[category, expert], the expert's measured quality shrunk to its overall mean. The weights of
    k choices are their Q divided by the sum of these Q: shares of quality, no softmax, which would need a temperature
    that nobody can choose. Where a planner or a fallback puts an expert before better ones it gets the best one's Q, so
    that weights never rise along a route. If all are zero the weights are equal. A candidate that was never measured
    comes after all that were, with the least Q of the category.
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

    def quality(self, category: str, expert: str) -> float:
        """Q[category, expert] in [0, 1]. Raises KeyError or ValueError for unknown names."""
        return float(self._fitted.level2.quality[self._fitted.rows.index(category), self._columns[expert]])

    def route(self, prompt: str, candidates: Sequence[str], k: int = 1) -> Route:
        """See `Router.route`."""
        return self.route_many([prompt], candidates, k)[0]

    def route_many(self, prompts: Sequence[str], candidates: Sequence[str], k: int = 1) -> list[Route]:
        """See `Router.route_many`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        allowed = dict.fromkeys(candidates)
        if not allowed:
            raise NoCandidate("there is no expert to route to: every candidate was excluded or is unavailable")
        routes: list[Route] = []
        for start in range(0, len(prompts), BATCH):
            x = self._encoder.encode(prompts[start : start + BATCH])
            for p, entropy, distance in zip(*self._fitted.level1.look(x), strict=True):
                routes.append(self._decide(_Sight(p, float(entropy), float(distance)), allowed, k))
        return routes

    def _decide(self, sight: _Sight, allowed: Mapping[str, None], k: int) -> Route:
        fitted = self._fitted
        level1 = fitted.level1
        order = np.argsort(-sight.p, kind="stable")
        probable = {fitted.categories[i]: float(sight.p[i]) for i in order[:TOP]}
        best = fitted.categories[order[0]]
        margin = float(sight.p[order[0]] - sight.p[order[1]]) if len(order) > 1 else 1.0
        if sight.distance > level1.distance_threshold:
            category = fitted.general
            why = f"far from everything known (distance {sight.distance:.2f} > {level1.distance_threshold:.2f})"
        elif sight.entropy > level1.entropy_threshold:
            category = fitted.general
            leading = " or ".join(f"{name} ({_percent(p)})" for name, p in list(probable.items())[:2])
            why = f"unsure: {leading} (entropy {sight.entropy:.2f} > {level1.entropy_threshold:.2f})"
        else:
            category = best
            why = f"{category} ({_percent(probable[category])})"
        choices, which = self._choose(category, allowed, k)
        return Route(
            choices=choices,
            reason=f"{why}: {which}",
            router=self.name,
            category=category,
            probabilities=probable,
            margin=margin,
            aggregator=self._aggregator if len(choices) > 1 else "single",
        )

    def _choose(self, category: str, allowed: Mapping[str, None], k: int) -> tuple[tuple[Choice, ...], str]:
        """The choices in a category, and in words which expert is first and why. `allowed` is an ordered set."""
        fitted = self._fitted
        row = fitted.rows.index(category)
        ranked = [fitted.experts[i] for i in fitted.level2.ranking[row]]
        quality = fitted.level2.quality[row]
        known = [expert for expert in ranked if expert in allowed]
        chosen = (known + [expert for expert in allowed if expert not in self._columns])[:k]
        least = float(quality.min())
        values = np.array([quality[self._columns[e]] if e in self._columns else least for e in chosen])
        values = np.maximum.accumulate(values[::-1])[::-1]
        weights = values / values.sum() if values.sum() > 0 else np.full(len(chosen), 1 / len(chosen))
        choices = tuple(Choice(expert, float(weight)) for expert, weight in zip(chosen, weights, strict=True))

        first = chosen[0]
        if not known:
            which = f"{first}, since no candidate was measured"
        elif first != ranked[0]:
            missing = "the generalist " if ranked[0] == fitted.fallback and category == fitted.general else ""
            which = f"{missing}{ranked[0]} is not available, {first} is the best of the {len(known)} that are"
        elif category == fitted.general:
            which = f"generalist {first}"
        elif quality[self._columns[first]] < max(quality[self._columns[expert]] for expert in known):
            which = f"{first} is planned for this category"
        else:
            which = f"{first} is the best of {len(known)} for this category"
        if len(chosen) > 1:
            which += f"; also asked: {', '.join(chosen[1:])}"
        return choices, which

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
        neighbours: int = 5,
        false_fallback: float = 0.05,
        shrinkage: float = 20.0,
        prior: Mapping[str, float] | None = None,
        parameters: Mapping[str, int] | None = None,
        total_budget: float | None = None,
        active_budget: float | None = None,
        aggregator: str = "vote",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Learns a router; the same input and seed give the same one.

        prompts, categories: training prompts and their categories, at least 10 of each category that occurs.
        quality: category -> expert -> (mean score in [0, 1], number of items). Every category of `prompts` but the
            general one needs an entry; an expert that is missing from a category counts as not measured there.
        general: category of prompts that belong to no specialist. It may have training prompts and quality or not.
        fallback: the expert of the general category; None = the best one by quality.
        neighbours: K, number of training prompts that the distance is the mean over.
        false_fallback: share of specialists' held-out prompts that the two thresholds together may send to `general`.
        shrinkage: lambda, in items: how many measured items the expert's overall mean is worth.
        prior: category -> share of requests; None = the shares of the training prompts.
        parameters, total_budget, active_budget: see `planner.plan`; the planner's expert of a category is then its
            first choice. `parameters` is needed if and only if there is a budget.
        on_progress: called with (prompts embedded, prompts).
        Raises ValueError (PlanError for budgets that cannot be met).
        """
        names, experts = _checked(prompts, categories, quality, general, fallback)
        if not 0 <= false_fallback <= 0.5 or neighbours < 1 or shrinkage < 0:
            raise ValueError(
                "false_fallback must be in [0, 0.5], neighbours at least 1, shrinkage at least 0; "
                f"got {false_fallback}, {neighbours}, {shrinkage}"
            )
        if total_budget is not None or active_budget is not None:
            unknown = [expert for expert in experts if expert not in (parameters or {})]
            if unknown:
                raise ValueError(f"a budget needs the `parameters` of every expert; missing: {', '.join(unknown)}")
        rows = names if general in names else (*names, general)
        y = np.array([names.index(category) for category in categories])
        counted = np.array([category != general for category in categories])
        level2 = fit_level2(
            quality,
            rows,
            general,
            experts,
            _prior(prior or Counter(categories), rows),
            shrinkage=shrinkage,
            fallback=fallback,
            parameters=parameters,
            total_budget=total_budget,
            active_budget=active_budget,
        )
        level1 = fit_level1(
            _embed(prompts, encoder, on_progress),
            y,
            counted if counted.any() else ~counted,
            seed=seed,
            neighbours=neighbours,
            false_fallback=false_fallback,
            max_references=MAX_REFERENCES,
        )
        fitted = Fitted(
            encoder=encoder.name,
            categories=names,
            general=general,
            experts=experts,
            fallback=fallback,
            level1=level1,
            level2=level2,
        )
        return cls(fitted, encoder, aggregator)

    def save(self, folder: Path) -> None:
        """Writes `router.json` and `router.npz` into `folder`, which is made if need be."""
        write(self._fitted, folder)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, aggregator: str = "vote") -> Self:
        """The router that `save` wrote. Raises RouterFileError."""
        return cls(read(folder, encoder), encoder, aggregator)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _embed(prompts: Sequence[str], encoder: Encoder, on_progress: Callable[[int, int], None] | None) -> Vectors:
    parts = []
    for start in range(0, len(prompts), BATCH):
        parts.append(encoder.encode(prompts[start : start + BATCH]))
        if on_progress is not None:
            on_progress(min(start + BATCH, len(prompts)), len(prompts))
    return np.concatenate(parts)


def _prior(shares: Mapping[str, float], rows: tuple[str, ...]) -> Floats:
    unknown = [category for category in shares if category not in rows]
    values = np.array([shares.get(category, 0.0) for category in rows], np.float64)
    if unknown or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"prior must give shares >= 0 of {', '.join(rows)}; got {dict(shares)}")
    shares_of_one: Floats = values / values.sum()
    return shares_of_one


def _checked(
    prompts: Sequence[str], categories: Sequence[str], quality: Quality, general: str, fallback: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(category names of the classifier, expert names), both sorted."""
    if len(prompts) != len(categories):
        raise ValueError(f"every prompt needs a category; got {len(prompts)} prompts and {len(categories)} categories")
    counts = Counter(categories)
    if not counts:
        raise ValueError("there are no training prompts; a router needs at least one category")
    few = [f"{category}: {n}" for category, n in sorted(counts.items()) if n < LEAST_PROMPTS]
    if few:
        raise ValueError(f"a category needs at least {LEAST_PROMPTS} training prompts; got {', '.join(few)}")
    unknown = sorted(category for category in quality if category not in counts and category != general)
    if unknown:
        raise ValueError(f"quality has categories without training prompts: {', '.join(unknown)}")
    totals: Counter[str] = Counter()
    for category, row in quality.items():
        for expert, (mean, n) in row.items():
            if not 0 <= mean <= 1 or n < 0:
                raise ValueError(
                    f"quality of {expert} in {category} must be a mean in [0, 1] of n >= 0 items; got {(mean, n)}"
                )
            totals[expert] += n
    bare = sorted(c for c in counts if c != general and not any(n for _, n in quality.get(c, {}).values()))
    if bare:
        raise ValueError(f"no expert was measured in {', '.join(bare)}: measure one there or leave its prompts out")
    idle = sorted(expert for expert, n in totals.items() if n == 0)
    if idle or not totals:
        raise ValueError(f"experts without a measured item: {', '.join(idle) or 'there is no expert at all'}")
    if fallback is not None and fallback not in totals:
        raise ValueError(f"the fallback {fallback!r} has no measured quality; experts: {', '.join(sorted(totals))}")
    return tuple(sorted(counts)), tuple(sorted(totals))
