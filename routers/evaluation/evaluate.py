"""How a fitted router does on prompts it was not fitted on, beside what it is to be compared with.

Every figure is of the same prompts. A gain counts only if its whole bootstrap interval is above zero.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routers.encoders.base import Encoder, Progress
from routers.encoders.embedded import Embedded
from routers.evaluation.decisions import Decided, Floats, Indices, decide, scored
from routers.evaluation.measures import Calibration, Trade, calibration, intervals, trade
from routers.fitted import FittedRouter, fit_labelled
from routers.fitted_choice import FOLDS
from routers.fitted_file import Facts, ModelName
from routers.labelled.data import Labelled
from routers.labelled.replay import Normalise

SHRINKAGE = 20.0
"""Prompts that an expert's overall mean is worth in the category oracle's map (DESIGN 7)."""

ROUTED = ("two_level", "skill", "both", "default")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was decided on n labelled prompts, and what it scored.

    data: the prompts. how: where they come from, in words. seen: how many of them the router was fitted on.
    defaults: the default model, of each fold in cross-validation.
    decided: best_single, two_level, skill, both and default -> what it decided. In `default`, `chosen` is of the
        default model and `voted` of the one for several experts.
    methods: method -> (n,) scores: random, best_single, two_level, skill, both, default, category_oracle (if there
        are categories), prompt_oracle, and the default's votes as vote_3 and vote_5 (if there are answers).
    costs: method -> (n,) costs, of those methods whose experts' costs are known.
    intervals: method -> 95 % interval of its mean gain over best_single, for all methods but that one.
    pair: names of the strong and the weak expert; trades: model -> what it gets out of calls to the strong one.
    frontier: (mean cost, mean score) of the default's choices at rising prices of cost; empty without costs.
    """

    data: Labelled
    how: str
    seen: int
    defaults: tuple[ModelName, ...]
    decided: Mapping[str, Decided]
    methods: Mapping[str, Floats]
    costs: Mapping[str, Floats]
    intervals: Mapping[str, tuple[float, float]]
    calibrations: Mapping[str, Calibration]
    pair: tuple[str, str] | None
    trades: Mapping[str, Trade]
    frontier: tuple[tuple[float, float], ...]

    @property
    def best_single(self) -> str:
        """The expert that was best on the fitted prompts; in cross-validation, on those of most folds."""
        [(column, _)] = Counter(self.decided["best_single"].chosen.tolist()).most_common(1)
        return self.data.experts[column]

    def mean(self, method: str) -> float:
        return float(self.methods[method].mean())

    def gain(self, method: str) -> float:
        return self.mean(method) - self.mean("best_single")


def evaluate(
    router: FittedRouter,
    data: Labelled,
    *,
    how: str = "held-out prompts",
    normalise: Normalise = str.strip,
    seed: int = 0,
    pair: tuple[str, str] | None = None,
) -> Evaluation:
    """Figures of `router` on `data`, which should have none of its fitted prompts.

    normalise: what of an answer counts in a vote. seed: of the bootstrap.
    pair: the strong and the weak expert of a trade-off; None = both, where there are two.
    Raises ValueError if router and data have different experts, or the pair is not among them.
    """
    decided, oracle = _decided(router, data, normalise)
    found = _evaluation(data, router.facts, decided, oracle, seed, pair)
    return replace(found, how=how, seen=int(router.seen(data.prompts).sum()))


def cross_evaluate(
    data: Labelled,
    encoder: Encoder,
    *,
    normalise: Normalise = str.strip,
    seed: int = 0,
    pair: tuple[str, str] | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Figures of routers that are fitted anew on all folds but the one that they are judged on."""
    known = Embedded(encoder, data.prompts, on_progress)
    parts: dict[str, list[tuple[Indices, Decided]]] = {}
    oracle = np.zeros(len(data), np.intp)
    facts: list[Facts] = []
    for number, (train, test) in enumerate(data.folds(FOLDS, seed)):
        router = fit_labelled(data.rows(train), known, seed=seed, normalise=normalise)
        decided, own = _decided(router, data.rows(test), normalise)
        for name, part in decided.items():
            parts.setdefault(name, []).append((test, part))
        if own is not None:
            oracle[test] = own
        facts.append(router.facts)
        if on_progress is not None:
            on_progress("folds", number + 1, FOLDS)
    joined = {name: Decided.joined(own) for name, own in parts.items()}
    found = _evaluation(data, facts[0], joined, oracle if data.categories is not None else None, seed, pair)
    return replace(found, how=f"{FOLDS}-fold cross-validation", defaults=tuple(own.default for own in facts))


def _decided(router: FittedRouter, data: Labelled, normalise: Normalise) -> tuple[dict[str, Decided], Indices | None]:
    """What each model and the default decide, and the category oracle's choices."""
    decided: dict[str, Decided] = {name: decide(model, data, normalise) for name, model in router.models.items()}
    one, several = decided[router.facts.default], decided[router.facts.several]
    decided["default"] = replace(one, asked=several.asked, weights=several.weights, voted=several.voted)
    return decided, _category_oracle(router.facts, data)


def _category_oracle(facts: Facts, data: Labelled) -> Indices | None:
    """(n,): the expert that is best in the prompt's true category, on the fitted prompts."""
    if data.categories is None or not facts.quality:
        return None
    chosen: Indices = np.where(data.measured, category_means(facts, data), -np.inf).argmax(axis=1)
    return chosen


def category_means(facts: Facts, data: Labelled) -> Floats:
    """(n, E): the experts' mean scores in the prompt's true category, on the fitted prompts.

    They are shrunk to the overall means, which also stand in for an unknown category.
    """
    overall, categories = np.array(facts.means), data.categories or ("",) * len(data)
    expected = np.empty(data.scores.shape)
    for category in set(categories):
        row = facts.quality.get(category, ((0.0, 0),) * len(facts.experts))
        means, counts = np.array(row).T
        at = [i for i, own in enumerate(categories) if own == category]
        expected[at] = (counts * means + SHRINKAGE * overall) / (counts + SHRINKAGE)
    return expected


def _evaluation(
    data: Labelled,
    facts: Facts,
    decided: Mapping[str, Decided],
    oracle: Indices | None,
    seed: int,
    pair: tuple[str, str] | None,
) -> Evaluation:
    chosen = {name: part.chosen for name, part in decided.items()}
    if oracle is not None:
        chosen["category_oracle"] = oracle
    chosen["prompt_oracle"] = np.where(data.measured, data.scores, -np.inf).argmax(axis=1)
    chosen |= {f"vote_{k}": winner for k, winner in decided["default"].voted.items()}
    methods = {"random": np.nanmean(data.scores, axis=1)} | {
        name: scored(data, columns) for name, columns in chosen.items()
    }
    others = [name for name in methods if name != "best_single"]
    leads = np.stack([methods[name] - methods["best_single"] for name in others], axis=1)
    ends = intervals(leads, seed=seed).tolist()
    two = _pair(data, facts, pair)
    return Evaluation(
        data=data,
        how="",
        seen=0,
        defaults=(facts.default,),
        decided=decided,
        methods=methods,
        costs=_costs(data, chosen, decided["default"].asked),
        intervals={name: (low, high) for name, (low, high) in zip(others, ends, strict=True)},
        calibrations={name: calibration(decided[name].predicted, data.scores) for name in ROUTED},
        pair=two,
        trades={} if two is None else _trades(data, decided, two),
        frontier=_frontier(data, facts, decided["default"].predicted),
    )


def _costs(data: Labelled, chosen: Mapping[str, Indices], asked: Mapping[int, Indices]) -> dict[str, Floats]:
    """Method -> (n,) costs of all experts that it asks, where they are known for every prompt."""
    if data.costs is None:
        return {}
    at = np.arange(len(data))
    costs = {
        "random": np.array([row[~np.isnan(row)].mean() if not np.isnan(row).all() else np.nan for row in data.costs])
    }
    costs |= {name: data.costs[at, columns] for name, columns in chosen.items()}
    costs |= {f"vote_{k}": np.take_along_axis(data.costs, columns, axis=1).sum(axis=1) for k, columns in asked.items()}
    return {name: cost for name, cost in costs.items() if not np.isnan(cost).any()}


def _pair(data: Labelled, facts: Facts, pair: tuple[str, str] | None) -> tuple[str, str] | None:
    if pair is not None:
        if unknown := [expert for expert in pair if expert not in data.experts]:
            raise ValueError(f"no expert {unknown[0]!r}; there are: {', '.join(data.experts)}")
        if pair[0] == pair[1]:
            raise ValueError(f"the strong and the weak expert must be two; got {pair[0]!r} twice")
        return pair
    if len(data.experts) != 2:
        return None
    weak, strong = np.argsort(facts.means, kind="stable")
    return data.experts[strong], data.experts[weak]


def _trades(data: Labelled, decided: Mapping[str, Decided], pair: tuple[str, str]) -> dict[str, Trade]:
    strong, weak = (data.experts.index(expert) for expert in pair)
    both = data.measured[:, strong] & data.measured[:, weak]
    trades = {}
    for name in ROUTED:
        predicted = decided[name].predicted[both]
        found = trade(predicted[:, strong] - predicted[:, weak], data.scores[both, strong], data.scores[both, weak])
        if found is not None:
            trades[name] = found
    return trades


def _frontier(data: Labelled, facts: Facts, predicted: Floats) -> tuple[tuple[float, float], ...]:
    """Mean cost and score of the best `predicted - price * mean cost`, from the dearest choices to the cheapest."""
    if data.costs is None or None in facts.costs or np.isnan(data.costs[data.measured]).any():
        return ()
    expected = np.array(facts.costs, np.float64)
    spread = float(expected.max() - expected.min())
    if spread == 0:
        return ()
    points: list[tuple[float, float]] = []
    for price in (0.0, *np.geomspace(1e-3, 1.0, 31)):
        value = np.where(data.measured, predicted - price * (expected - expected.min()) / spread, -np.inf)
        columns: Indices = value.argmax(axis=1)
        point = (float(data.costs[np.arange(len(data)), columns].mean()), float(scored(data, columns).mean()))
        if point not in points:
            points.append(point)
    return tuple(points)


def categories(evaluation: Evaluation) -> dict[str, Sequence[int]]:
    """Category -> places of its prompts, sorted by name; empty without categories."""
    found: dict[str, list[int]] = {}
    for place, category in enumerate(evaluation.data.categories or ()):
        found.setdefault(category, []).append(place)
    return {category: found[category] for category in sorted(found)}
