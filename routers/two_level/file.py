"""The files of a fitted two-level router: `router.json` (names, thresholds, version) and `router.npz` (arrays).

Neither can execute anything when it is read: JSON, and numpy arrays without pickle.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from routers.encoders.base import Encoder
from routers.files import RouterFileError, corrupt, read_bytes, replace_file
from routers.two_level.model import Fitted, Level1, Level2
from routers.two_level.parts import (
    Array,
    Stage,
    checked,
    committee_arrays,
    read_committees,
    read_second,
    second_arrays,
    stages,
)

FORMAT = "coe-two-level-router"
VERSION = 2
HEADER, ARRAYS = "router.json", "router.npz"


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coe-two-level-router"]
    version: Literal[2]
    encoder: str
    dim: int = Field(gt=0)
    categories: tuple[str, ...] = Field(min_length=1)
    general: str
    experts: tuple[str, ...] = Field(min_length=1)
    fallback: str | None
    neighbours: int = Field(gt=0)
    entropy_threshold: FiniteFloat
    distance_threshold: FiniteFloat
    mixture: bool
    second: tuple[Stage, ...] | None
    committees: tuple[Annotated[int, Field(ge=2)], ...] | None
    figures: dict[str, float]
    arrays_sha256: str


def write(fitted: Fitted, folder: Path) -> None:
    """Writes both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    level1, level2 = fitted.level1, fitted.level2
    content: dict[str, Array] = {
        "coef": level1.coef,
        "intercept": level1.intercept,
        "references": level1.references,
        "quality": level2.quality,
        "prior": level2.prior,
        "first": level2.first,
    }
    if fitted.second is not None:
        content |= second_arrays(fitted.second)
    if fitted.committees is not None:
        content |= committee_arrays(fitted.committees)
    buffer = io.BytesIO()
    np.savez(buffer, **content)  # type: ignore[arg-type]  # its stub takes `allow_pickle` for one of the arrays
    arrays = buffer.getvalue()
    header = _Header(
        format="coe-two-level-router",
        version=VERSION,
        encoder=fitted.encoder,
        dim=level1.coef.shape[1],
        categories=fitted.categories,
        general=fitted.general,
        experts=fitted.experts,
        fallback=fitted.fallback,
        neighbours=level1.neighbours,
        entropy_threshold=level1.entropy_threshold,
        distance_threshold=level1.distance_threshold,
        mixture=level2.mixture,
        second=None if fitted.second is None else stages(fitted.second),
        committees=None if fitted.committees is None else tuple(fitted.committees.sizes),
        figures=level1.figures,
        arrays_sha256=hashlib.sha256(arrays).hexdigest(),
    )
    replace_file(folder / ARRAYS, arrays)
    replace_file(folder / HEADER, (header.model_dump_json(indent=1) + "\n").encode())


def read(folder: Path, encoder: Encoder) -> Fitted:
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
    rows, columns = len(header.categories) + (header.general not in header.categories), len(header.experts)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            coef = checked(arrays["coef"], "f", (len(header.categories), header.dim))
            intercept = checked(arrays["intercept"], "f", (len(header.categories),))
            references = checked(arrays["references"], "f", (None, header.dim))
            quality = checked(arrays["quality"], "f", (rows, columns))
            prior = checked(arrays["prior"], "f", (rows,))
            first = checked(arrays["first"], "i", (rows,)).astype(np.intp)
            second, committees = None, None
            if header.second is not None:
                second = read_second(arrays, header.second, len(references), columns)
            if header.committees is not None:
                committees = read_committees(arrays, header.committees, rows, columns)
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:  # TypeError: a lone .npy array
        raise corrupt(folder / ARRAYS, str(error)) from error
    if not ((first >= -1) & (first < columns)).all():
        raise corrupt(folder / ARRAYS, "'first' names an expert that does not exist")
    return Fitted(
        encoder=header.encoder,
        categories=header.categories,
        general=header.general,
        experts=header.experts,
        fallback=header.fallback,
        level1=Level1(
            coef=coef.astype(np.float32),
            intercept=intercept.astype(np.float32),
            references=references.astype(np.float32),
            neighbours=header.neighbours,
            entropy_threshold=header.entropy_threshold,
            distance_threshold=header.distance_threshold,
            figures=header.figures,
        ),
        level2=Level2(quality.astype(np.float64), prior.astype(np.float64), first, header.mixture),
        second=second,
        committees=committees,
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
        return _Header.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise corrupt(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
