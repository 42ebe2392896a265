"""Which model answers by default: chosen by cross-validation on the fitted prompts, and no other."""

from collections.abc import Callable, Mapping

import numpy as np

from routers.best_single import BestSingle
from routers.both import Both
from routers.encoders.base import Encoder, Progress
from routers.evaluation.decisions import Decided, Floats, Indices, Model, Predictor, decide, scored
from routers.evaluation.measures import intervals
from routers.evaluation.patience import least_patience
from routers.fitted_file import MODELS, Chosen, ModelName
from routers.labelled.data import Labelled
from routers.labelled.replay import Normalise

FOLDS = 5
LEAST_PROMPTS = 20
VOTERS = 3
"""Experts in the votes by which the model for several experts is chosen."""

CANDIDATES: tuple[ModelName, ...] = ("both", *MODELS)
"""Models that may become the default. The first one does unless another is clearly better."""

CLEARLY_BETTER = 2.0
"""Standard errors by which a model must lead the first candidate to be taken in its place. Cross-validation is too
noisy to tell routers apart that differ less, and a mean of two is the safer guess."""

WORTH_TRYING = 1.0
"""Standard errors by which a model must lead the best single expert to be the default. That is no proof, and the report
claims none by it; but routers are shrunk towards the best single expert, so that one without a gain loses little."""


def models() -> dict[ModelName, type[Model]]:
    """The models that are fitted, by name."""
    from routers.skill.router import SkillRouter
    from routers.two_level.router import TwoLevelRouter

    return {"two_level": TwoLevelRouter, "skill": SkillRouter}


def single(data: Labelled) -> BestSingle:
    """The best single expert. One that was never measured counts as the worst that was."""
    means = data.means()
    return BestSingle(data.experts, np.where(np.isnan(means), np.nanmin(means), means).tolist())


def all_models(best: BestSingle, fitted: Mapping[ModelName, Model]) -> dict[ModelName, Predictor]:
    """All that may answer, by name; fitted: the models of `MODELS`."""
    one, other = (fitted[name] for name in MODELS)
    return {"best_single": best, **fitted, "both": Both(one, other, best.means)}


def by_cross_validation(
    data: Labelled, encoder: Encoder, seed: int, normalise: Normalise, on_progress: Progress | None
) -> tuple[Chosen, ModelName, ModelName, dict[ModelName, Model]]:
    """What cross-validation said, the default model for one and for several experts, and the models fitted on all.

    Default are both routers together, or the one that is clearly better, if the lead over the best single expert is
    more than its standard error; else the best single expert. For several experts it is the one whose votes of three
    score best, where answers are known; else the same.
    Raises ValueError for fewer than 20 prompts, or where a model finds them too few.
    """
    different = len(set(data.prompts))
    if different < LEAST_PROMPTS:
        raise ValueError(f"got {different} different prompts; a router needs {LEAST_PROMPTS} at least, better hundreds")
    folds = data.folds(FOLDS, seed)
    step = _Steps(on_progress, (len(folds) + 1) * len(MODELS))
    parts: dict[ModelName, list[tuple[Indices, Decided]]] = {}
    for train, test in folds:
        seen, held_out = data.rows(train), data.rows(test)
        for name, model in all_models(single(seen), _fit(seen, encoder, seed, step)).items():
            parts.setdefault(name, []).append((test, decide(model, held_out, normalise)))
    decided = {name: Decided.joined(own) for name, own in parts.items()}
    scores = {name: scored(data, own.chosen) for name, own in decided.items()}
    leads = intervals(np.stack([scores[name] - scores["best_single"] for name in CANDIDATES], axis=1), seed=seed)
    gains = dict(zip(CANDIDATES, (tuple(lead) for lead in leads.tolist()), strict=True))
    means = {name: float(own.mean()) for name, own in scores.items()}
    votes = {n: float(scored(data, d.voted[VOTERS]).mean()) for n, d in decided.items() if VOTERS in d.voted}

    best = max(CANDIDATES, key=lambda name: _lead(scores[name], scores[CANDIDATES[0]], CLEARLY_BETTER))
    default: ModelName = best if _lead(scores[best], scores["best_single"], WORTH_TRYING) > 0 else "best_single"
    several = max(votes, key=lambda name: votes[name]) if votes else default
    patience = least_patience(data, decided[several], normalise)
    chosen = Chosen(folds=len(folds), scores=means, votes=votes, gains=gains, patience=patience)
    return chosen, default, several, _fit(data, encoder, seed, step)


def _lead(ours: Floats, others: Floats, errors: float) -> float:
    """The mean lead of scores (n,) over others, or 0 if that is not more than so many standard errors."""
    lead = ours - others
    mean = float(lead.mean())
    return mean if mean > errors * float(lead.std()) / np.sqrt(len(lead)) else 0.0


def _fit(data: Labelled, encoder: Encoder, seed: int, step: Callable[[], None]) -> dict[ModelName, Model]:
    fitted: dict[ModelName, Model] = {}
    for name, model in models().items():
        fitted[name] = model.fit_labelled(data, encoder, seed=seed)
        step()
    return fitted


class _Steps:
    """Counts the fits for a progress bar."""

    def __init__(self, on_progress: Progress | None, of: int) -> None:
        self._on_progress, self._of, self._done = on_progress, of, 0

    def __call__(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress("routers fitted", self._done, self._of)
