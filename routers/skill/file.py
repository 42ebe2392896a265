"""The folder of a fitted skill router: `router.json` (names, choices, version) and `router.npz` (arrays)."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveFloat

from routers.encoders.base import Encoder
from routers.files import corrupt
from routers.folder import (
    HEADER,
    Array,
    Header,
    archived,
    checked,
    digest,
    opened,
    read_header,
    same_encoder,
    write_router,
)
from routers.skill.categories import Categories
from routers.skill.model import FittedSkills, Skills, Source
from routers.skill.profile import Profiles, Shrinkage
from routers.skill.recruit import Weighting
from routers.skill.terms import Terms
from routers.skill.vocabulary import Vocabulary


class _Header(Header):
    format: Literal["coe-skill-router"] = "coe-skill-router"
    version: Literal[1] = 1
    source: Source
    skills: tuple[str, ...] = Field(min_length=1)
    words: tuple[str, ...] | None
    words_scale: PositiveFloat
    categories: tuple[str, ...] | None
    categories_scale: PositiveFloat
    grains: tuple[int, ...] = Field(min_length=1)
    threshold: FiniteFloat
    most: int = Field(gt=0)
    width: PositiveFloat
    experts: tuple[str, ...] = Field(min_length=1)
    trimmed: tuple[str, ...]
    shrinkage: Shrinkage
    weighting: Weighting
    slope: FiniteFloat
    figures: dict[str, float]
    arrays_sha256: str


def write(fitted: FittedSkills, folder: Path) -> None:
    """Writes both files; each appears whole or not at all."""
    skills, profiles = fitted.skills, fitted.profiles
    vocabulary, words, categories = skills.vocabulary, skills.words, skills.categories
    arrays = archived(
        {
            "vectors": vocabulary.vectors,
            "rarity": words.rarity if words is not None else np.zeros(0),
            "coef": categories.coef if categories is not None else np.zeros((0, vocabulary.vectors.shape[1])),
            "intercept": categories.intercept if categories is not None else np.zeros(0),
            "level": profiles.level,
            "field": profiles.field,
            "profile": profiles.profile,
            "items": profiles.items,
            "total": profiles.total,
        }
    )
    header = _Header(
        encoder=fitted.encoder,
        dim=vocabulary.vectors.shape[1],
        source=fitted.source,
        skills=vocabulary.names,
        words=words.words if words is not None else None,
        words_scale=skills.words_scale,
        categories=categories.names if categories is not None else None,
        categories_scale=skills.categories_scale,
        grains=vocabulary.grains,
        threshold=vocabulary.threshold,
        most=vocabulary.most,
        width=vocabulary.width,
        experts=profiles.experts,
        trimmed=fitted.trimmed,
        shrinkage=profiles.shrinkage,
        weighting=fitted.weighting,
        slope=fitted.slope,
        figures=fitted.figures,
        arrays_sha256=digest(arrays),
    )
    write_router(folder, header, arrays)


def read(folder: Path, encoder: Encoder) -> FittedSkills:
    """The router in `folder`. Raises RouterFileError."""
    header = read_header(folder, _Header)
    if sum(header.grains) != len(header.skills):
        raise corrupt(folder / HEADER, f"its grains {header.grains} are not those of {len(header.skills)} skills")
    same_encoder(folder, header, encoder)
    words, categories = header.words or (), header.categories or ()
    skills, experts = len(header.skills) + len(words) + len(categories), len(header.experts)
    with opened(folder, header.arrays_sha256) as arrays:
        vectors = _floats(arrays["vectors"], (len(header.skills), header.dim))
        rarity = _floats(arrays["rarity"], (len(words),))
        coef = _floats(arrays["coef"], (len(categories), header.dim))
        intercept = _floats(arrays["intercept"], (len(categories),))
        level, total = _floats(arrays["level"], (experts,)), _floats(arrays["total"], (experts,))
        field = _floats(arrays["field"], (skills,))
        profile, items = (_floats(arrays[name], (skills, experts)) for name in ("profile", "items"))
    return FittedSkills(
        encoder=header.encoder,
        source=header.source,
        skills=Skills(
            Vocabulary(
                header.skills, vectors.astype(np.float32), header.grains, header.threshold, header.most, header.width
            ),
            None if header.words is None else Terms(header.words, rarity),
            None if header.categories is None else Categories(header.categories, coef, intercept),
            header.words_scale,
            header.categories_scale,
        ),
        profiles=Profiles(header.experts, level, field, profile, items, total, header.shrinkage),
        weighting=header.weighting,
        slope=header.slope,
        trimmed=header.trimmed,
        figures=header.figures,
    )


def _floats(array: Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return checked(array, "f", shape).astype(np.float64)
