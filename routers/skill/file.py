"""The files of a fitted skill router: `router.json` (names, choices, version) and `router.npz` (arrays).

Neither can execute anything when it is read: JSON, and numpy arrays without pickle.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, ValidationError

from routers.encoders.base import Encoder
from routers.files import RouterFileError, corrupt, read_bytes, replace_file
from routers.skill.categories import Categories
from routers.skill.model import FittedSkills, Skills, Source
from routers.skill.profile import Profiles, Shrinkage
from routers.skill.recruit import Weighting
from routers.skill.terms import Terms
from routers.skill.vocabulary import Vocabulary

FORMAT = "coe-skill-router"
VERSION = 1
HEADER, ARRAYS = "router.json", "router.npz"


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coe-skill-router"] = "coe-skill-router"
    version: Literal[1] = 1
    encoder: str
    dim: int = Field(gt=0)
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
    folder.mkdir(parents=True, exist_ok=True)
    skills, profiles = fitted.skills, fitted.profiles
    vocabulary, words, categories = skills.vocabulary, skills.words, skills.categories
    buffer = io.BytesIO()
    np.savez(
        buffer,
        vectors=vocabulary.vectors,
        rarity=words.rarity if words is not None else np.zeros(0),
        coef=categories.coef if categories is not None else np.zeros((0, vocabulary.vectors.shape[1])),
        intercept=categories.intercept if categories is not None else np.zeros(0),
        level=profiles.level,
        field=profiles.field,
        profile=profiles.profile,
        items=profiles.items,
        total=profiles.total,
    )
    arrays = buffer.getvalue()
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
        arrays_sha256=hashlib.sha256(arrays).hexdigest(),
    )
    replace_file(folder / ARRAYS, arrays)
    replace_file(folder / HEADER, (header.model_dump_json(indent=1) + "\n").encode())


def read(folder: Path, encoder: Encoder) -> FittedSkills:
    """The router in `folder`. Raises RouterFileError."""
    header = _header(folder / HEADER)
    if (header.encoder, header.dim) != (encoder.name, encoder.dim):
        raise RouterFileError(
            f"the router in {folder} was fitted with encoder {header.encoder!r} ({header.dim} dimensions), "
            f"but {encoder.name!r} ({encoder.dim}) is in use: use the same encoder or fit the router again"
        )
    data = read_bytes(folder / ARRAYS)
    if hashlib.sha256(data).hexdigest() != header.arrays_sha256:
        raise corrupt(folder / ARRAYS, f"it is not the file that {HEADER} was written with")
    words, categories = header.words or (), header.categories or ()
    skills, experts = len(header.skills) + len(words) + len(categories), len(header.experts)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            vectors = _array(arrays["vectors"], (len(header.skills), header.dim))
            rarity = _array(arrays["rarity"], (len(words),))
            coef = _array(arrays["coef"], (len(categories), header.dim))
            intercept = _array(arrays["intercept"], (len(categories),))
            level, total = _array(arrays["level"], (experts,)), _array(arrays["total"], (experts,))
            field = _array(arrays["field"], (skills,))
            profile, items = (_array(arrays[name], (skills, experts)) for name in ("profile", "items"))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:  # TypeError: a lone .npy array
        raise corrupt(folder / ARRAYS, str(error)) from error
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


def _header(path: Path) -> _Header:
    try:
        raw = json.loads(read_bytes(path))
    except ValueError as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise corrupt(path, f"it has no 'format' of {FORMAT!r}")
    if raw.get("version") != VERSION:
        raise RouterFileError(
            f"{path} is of version {raw.get('version')!r}, this release reads version {VERSION}: fit the router again"
        )
    try:
        header = _Header.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise corrupt(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if sum(header.grains) != len(header.skills):
        raise corrupt(path, f"its grains {header.grains} are not those of {len(header.skills)} skills")
    return header


def _array(array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if array.dtype.kind != "f" or array.shape != shape:
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype} where {shape} was expected")
    return array.astype(np.float64)
