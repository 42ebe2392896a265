"""How the skill router learns: labelled prompts in, `FittedSkills` out. `SkillRouter.fit_labelled` is the door to this.

What has no right value for all data is chosen by cross-validation on the fitted prompts: the vocabulary's plan (see
`material`), the shrinkage, the weighting, and whether trimming is safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routers.blas import blas_threads
from routers.encoders.base import Encoder
from routers.labelled.data import Labelled
from routers.labelled.replay import coded, winners
from routers.skill.material import Clusters, Keywords, Material, Names
from routers.skill.model import FittedSkills, Skills
from routers.skill.profile import Profiles, Shrinkage, hardness, leads, levels, matrix, ridge
from routers.skill.recruit import RECRUITED, Weighting, ranked, relevance, trimmed
from routers.skill.tags import Tagger
from routers.skill.vocabulary import Floats, Indices, Tags, given

FOLDS = 3
LEAST_PROMPTS = 2 * FOLDS
BATCH = 256

SHRINKAGES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
MINIMUM = 2.0
"""Items that an entry of a profile rests on at least."""

WEIGHTINGS = tuple(Weighting(floor, power) for power in (2.0, 1.0, 0.0) for floor in (0.0, 0.2))
"""T = 0.5 of the paper first: others are taken only if they do better."""


def fit(
    data: Labelled, encoder: Encoder, *, seed: int, vocabulary: Sequence[str] | None, tag: Tagger | None
) -> FittedSkills:
    """See `SkillRouter.fit_labelled`."""
    different = len(set(data.prompts))
    if different < LEAST_PROMPTS:
        raise ValueError(f"got {different} different prompts; a skill router needs {LEAST_PROMPTS} at least")
    material = _material(data, encoder, seed, vocabulary, tag)
    with blas_threads(1):  # the matrices are small; see blas_threads
        return _fit(data, encoder, material, seed)


def _fit(data: Labelled, encoder: Encoder, material: Material, seed: int) -> FittedSkills:
    views = [
        _View(train, held, [_tagged(material, skills, train, held) for skills in material.skills(train)])
        for train, held in data.folds(FOLDS, seed)
    ]
    plan, shrinkage, figures = _fewest_errors(data, views)
    held_out, level = _held_out(data, views, plan, shrinkage)
    slope = _slope(held_out, level, data.scores)
    predicted = np.clip(level + slope * (held_out - level), 0.0, 1.0)
    weighting, last, seen = _recruiting(data, predicted)

    every = np.arange(len(data))
    skills = material.named(material.skills(every)[plan])
    profiles = Profiles.fit(data.experts, material.tags(skills, every), len(skills.names), data.scores, shrinkage)
    return FittedSkills(
        encoder=encoder.name,
        source="tagger" if isinstance(material, Keywords) else "encoder",
        skills=skills,
        profiles=profiles,
        weighting=weighting,
        slope=slope,
        trimmed=tuple(np.array(data.experts)[last].tolist()),
        figures={
            "prompts": len(data),
            "skills": len(skills.names),
            "skills_of_a_prompt": skills.vocabulary.most,
            "words_scale": skills.words_scale if skills.words is not None else 0.0,
            "categories_scale": skills.categories_scale if skills.categories is not None else 0.0,
            **figures,
            **seen,
        },
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A fold. train, held: places of prompts; plans: the skills of both, and the number of skills, for each plan."""

    train: Indices
    held: Indices
    plans: list[tuple[Tags, Tags, int]]


def _tagged(material: Material, skills: Skills, train: Indices, held: Indices) -> tuple[Tags, Tags, int]:
    return material.tags(skills, train), material.tags(skills, held), len(skills.names)


def _material(
    data: Labelled, encoder: Encoder, seed: int, vocabulary: Sequence[str] | None, tag: Tagger | None
) -> Material:
    if tag is not None:
        return Keywords(tag(data.prompts), encoder, vocabulary)
    x = np.concatenate([encoder.encode(data.prompts[at : at + BATCH]) for at in range(0, len(data), BATCH)])
    if vocabulary is not None:
        return Names(x, data.prompts, given(vocabulary, encoder))
    return Clusters(x, data.prompts, data.categories, seed)


def _fewest_errors(data: Labelled, views: Sequence[_View]) -> tuple[int, Shrinkage, dict[str, float]]:
    """The plan and the shrinkage that explain the held-out scores best, and how much of their variance that is.

    Squared errors, for they tell more than who came first: the choice of an expert turns on few prompts.
    """
    plans, many = len(views[0].plans), len(SHRINKAGES)
    errors = np.zeros((2, plans, many))
    variance = np.zeros((2, plans))
    for view in views:
        for plan, tagged in enumerate(view.plans):
            lost, spread = _errors(data.scores[view.train], data.scores[view.held], *tagged)
            errors[:, plan] += lost
            variance[:, plan] += spread
    field, lead = errors
    plan = int(lead.min(axis=1).argmin())
    shrinkage = Shrinkage(SHRINKAGES[int(field[plan].argmin())], SHRINKAGES[int(lead[plan].argmin())], MINIMUM)
    explained = 1 - errors[:, plan].min(axis=1) / np.maximum(variance[:, plan], 1e-12)
    figures = {
        "shrinkage_field": shrinkage.field,
        "shrinkage_profile": shrinkage.profile,
        "held_out_field_explained": float(explained[0]),
        "held_out_leads_explained": float(explained[1]),
    }
    return plan, shrinkage, figures


def _errors(train: Floats, held: Floats, known: Tags, new: Tags, skills: int) -> tuple[Floats, Floats]:
    """Squared errors (2, shrinkages) on the held-out scores, of the field and of the leads, and their variance (2,)."""
    penalties = np.array(SHRINKAGES)
    many, experts = len(penalties), train.shape[1]
    level = levels(train)
    weights = (~np.isnan(train)).astype(np.float64)
    over = np.tile(hardness(level, train)[:, None], many)
    fields = ridge(known, skills, over, np.tile(weights.max(axis=1, keepdims=True), many), penalties)
    guessed = matrix(new, skills) @ fields
    real = hardness(level, held)
    lost = ((guessed - real[:, None]) ** 2).sum(axis=0)
    best = int(lost.argmin())

    ahead = np.tile(leads(level, matrix(known, skills) @ fields[:, best], train), many)
    profiles = ridge(known, skills, ahead, np.tile(weights, many), np.repeat(penalties, experts))
    guess = (matrix(new, skills) @ profiles).reshape(len(held), many, experts)
    really = leads(level, guessed[:, best], held)
    wrong = np.where(np.isnan(held)[:, None], 0.0, guess - really[:, None])
    return np.stack([lost, (wrong**2).sum(axis=(0, 2))]), np.array([(real**2).sum(), (really**2).sum()])


def _held_out(data: Labelled, views: Sequence[_View], plan: int, shrinkage: Shrinkage) -> tuple[Floats, Floats]:
    """What was expected (n, E) of each expert on prompts that were held out, and its level (n, E) without them."""
    expected, level = np.zeros(data.scores.shape), np.zeros(data.scores.shape)
    for view in views:
        known, new, skills = view.plans[plan]
        profiles = Profiles.fit(data.experts, known, skills, data.scores[view.train], shrinkage)
        expected[view.held], level[view.held] = profiles.expected(new), profiles.level
    return expected, level


def _slope(expected: Floats, level: Floats, scores: Floats) -> float:
    """What is left of the expected distance from an expert's level: least squares, in [0, 1]."""
    known = ~np.isnan(scores)
    far, real = (expected - level)[known], (scores - level)[known]
    return float(np.clip((far @ real) / max(far @ far, 1e-12), 0.0, 1.0))


def _recruiting(data: Labelled, predicted: Floats) -> tuple[Weighting, NDArray[np.bool_], dict[str, float]]:
    """The weighting that recruits best on held-out prompts, and who is trimmed: nobody if that costs score."""
    measured = ~np.isnan(data.scores)
    codes = None if data.answers is None else coded(data.answers, str.strip)
    level = np.nan_to_num(data.means())
    nobody = np.zeros(len(data.experts), np.bool_)

    def recruited(weighting: Weighting, last: NDArray[np.bool_]) -> float:
        shares = np.where(measured, relevance(predicted, level, weighting), -1.0)
        first = _mean_score(data.scores, ranked(shares, last, 1)[:, 0])
        if codes is None or len(data.experts) < RECRUITED:
            return first
        three = ranked(shares, last, RECRUITED)
        weights = np.maximum(np.take_along_axis(shares, three, axis=1), 0.0)
        return (first + _mean_score(data.scores, winners(codes, three, weights))) / 2

    best = max(WEIGHTINGS, key=lambda weighting: recruited(weighting, nobody))
    last = trimmed(relevance(predicted, level, best))
    if recruited(best, last) < recruited(best, nobody):
        last = nobody
    shares = np.where(measured, relevance(predicted, level, best), -1.0)
    return (
        best,
        last,
        {
            "power": best.power,
            "floor": best.floor,
            "held_out_score": _mean_score(data.scores, ranked(shares, last, 1)[:, 0]),
            "held_out_best_single": float(np.nan_to_num(data.means()).max()),
        },
    )


def _mean_score(scores: Floats, chosen: Indices) -> float:
    return float(np.nanmean(scores[np.arange(len(scores)), chosen]))
