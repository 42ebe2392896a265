"""The files of a fitted two-level router: `router.json` (names, thresholds, version) and `router.npz` (arrays).

Neither can execute anything when it is read: JSON, and numpy arrays without pickle.
"""

import hashlib
import io
import json
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from routers.encoder import Encoder
from routers.two_level_fit import Level1, Level2

FORMAT = "coe-two-level-router"
VERSION = 1
HEADER, ARRAYS = "router.json", "router.npz"


class RouterFileError(RuntimeError):
    """A fitted router cannot be read: missing, corrupt, of another version or for another encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """All that a two-level router knows.

    categories: the classifier's, in the order of its outputs; general: may be one of them.
    experts: those with measured quality, in the order of the columns of `level2`.
    fallback: the expert of the general category, None = the best one.
    """

    encoder: str
    categories: tuple[str, ...]
    general: str
    experts: tuple[str, ...]
    fallback: str | None
    level1: Level1
    level2: Level2

    @property
    def rows(self) -> tuple[str, ...]:
        """Categories in the order of the rows of `level2`: the general one is last if the classifier lacks it."""
        return self.categories if self.general in self.categories else (*self.categories, self.general)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coe-two-level-router"]
    version: Literal[1]
    encoder: str
    dim: int = Field(gt=0)
    categories: tuple[str, ...] = Field(min_length=1)
    general: str
    experts: tuple[str, ...] = Field(min_length=1)
    fallback: str | None
    neighbours: int = Field(gt=0)
    entropy_threshold: FiniteFloat
    distance_threshold: FiniteFloat
    figures: dict[str, float]
    arrays_sha256: str


def write(fitted: Fitted, folder: Path) -> None:
    """Writes both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        coef=fitted.level1.coef,
        intercept=fitted.level1.intercept,
        references=fitted.level1.references,
        quality=fitted.level2.quality,
        ranking=fitted.level2.ranking,
    )
    arrays = buffer.getvalue()
    header = _Header(
        format="coe-two-level-router",
        version=VERSION,
        encoder=fitted.encoder,
        dim=fitted.level1.coef.shape[1],
        categories=fitted.categories,
        general=fitted.general,
        experts=fitted.experts,
        fallback=fitted.fallback,
        neighbours=fitted.level1.neighbours,
        entropy_threshold=fitted.level1.entropy_threshold,
        distance_threshold=fitted.level1.distance_threshold,
        figures=fitted.level1.figures,
        arrays_sha256=hashlib.sha256(arrays).hexdigest(),
    )
    _replace(folder / ARRAYS, arrays)
    _replace(folder / HEADER, (header.model_dump_json(indent=1) + "\n").encode())


def read(folder: Path, encoder: Encoder) -> Fitted:
    """The router in `folder`. Raises RouterFileError."""
    header = _header(folder / HEADER)
    if (header.encoder, header.dim) != (encoder.name, encoder.dim):
        raise RouterFileError(
            f"the router in {folder} was fitted with encoder {header.encoder!r} ({header.dim} dimensions), "
            f"but {encoder.name!r} ({encoder.dim}) is in use: use the same encoder or fit the router again"
        )
    data = _bytes(folder / ARRAYS)
    if hashlib.sha256(data).hexdigest() != header.arrays_sha256:
        raise _corrupt(folder / ARRAYS, f"it is not the file that {HEADER} was written with")
    rows, columns = len(header.categories) + (header.general not in header.categories), len(header.experts)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            coef = _array(arrays["coef"], "f", (len(header.categories), header.dim))
            intercept = _array(arrays["intercept"], "f", (len(header.categories),))
            references = _array(arrays["references"], "f", (None, header.dim))
            quality = _array(arrays["quality"], "f", (rows, columns))
            ranking = _array(arrays["ranking"], "i", (rows, columns))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:  # TypeError: a lone .npy array
        raise _corrupt(folder / ARRAYS, str(error)) from error
    if not (np.sort(ranking, axis=1) == np.arange(columns)).all():
        raise _corrupt(folder / ARRAYS, "a row of 'ranking' does not name every expert once")
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
        level2=Level2(quality=quality.astype(np.float64), ranking=ranking.astype(np.intp)),
    )


def _header(path: Path) -> _Header:
    try:
        raw = json.loads(_bytes(path))
    except ValueError as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise _corrupt(path, f"it has no 'format' of {FORMAT!r}")
    if raw.get("version") != VERSION:
        raise RouterFileError(
            f"{path} is of version {raw.get('version')!r}, this release reads version {VERSION}: fit the router again"
        )
    try:
        return _Header.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise _corrupt(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RouterFileError(f"there is no fitted router: {path} is missing; fit it first") from None
    except OSError as error:
        raise RouterFileError(f"{path} cannot be read: {error.strerror}") from error


def _array(array: NDArray[np.generic], kind: str, shape: tuple[int | None, ...]) -> NDArray[np.generic]:
    fits = array.ndim == len(shape) and all(want in (None, got) for got, want in zip(array.shape, shape, strict=True))
    if array.dtype.kind != kind or not fits or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype} where {shape} was expected")
    return array


def _corrupt(path: Path, why: str) -> RouterFileError:
    return RouterFileError(f"{path} is corrupt ({why}): fit the router again")


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep it from the service's own user
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
