"""The folder of a fitted router: `router.json` (what was seen and chosen), `prompts.npy`, and a folder for each model.

Nothing in it can execute anything when it is read: JSON, and numpy arrays without pickle.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from routers.files import RouterFileError, corrupt, read_bytes, replace_file

FORMAT = "coe-fitted-router"
VERSION = 1
HEADER, PROMPTS = "router.json", "prompts.npy"

ModelName = Literal["best_single", "two_level", "skill"]
MODELS: tuple[ModelName, ...] = ("two_level", "skill")
"""Those that have a folder of their own. The best single expert is known by the means."""


class Chosen(BaseModel):
    """What cross-validation said about the models on the fitted prompts, in shares.

    scores: model -> mean score; votes: model -> mean score of the weighted vote of three, where answers are known.
    gains: model -> lower and upper end of the 95 % interval of its lead over the best single expert.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(ge=2)
    scores: dict[ModelName, FiniteFloat]
    votes: dict[ModelName, FiniteFloat]
    gains: dict[ModelName, tuple[FiniteFloat, FiniteFloat]]


class Facts(BaseModel):
    """What a fitted router knows besides its models.

    experts: sorted. means: their mean scores on the fitted prompts. costs: their mean costs, None where unknown.
    quality: category -> for each expert (mean score, number of prompts); empty without categories.
    default: the model that answers for one expert, several: for more than one.
    prompts: number of fitted prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coe-fitted-router"] = "coe-fitted-router"
    version: Literal[1] = 1
    encoder: str
    dim: int = Field(gt=0)
    experts: tuple[str, ...] = Field(min_length=2)
    means: tuple[FiniteFloat, ...]
    costs: tuple[FiniteFloat | None, ...]
    quality: dict[str, tuple[tuple[FiniteFloat, int], ...]]
    default: ModelName
    several: ModelName
    chosen: Chosen
    prompts: int = Field(gt=0)
    seed: int = Field(ge=0)

    @property
    def best_single(self) -> str:
        """The expert with the best mean score on the fitted prompts."""
        return self.experts[int(np.argmax(self.means))]


class _Header(Facts):
    """files: path below the folder -> SHA-256."""

    files: dict[str, str]


class Saved(Protocol):
    """A model that can be saved."""

    def save(self, folder: Path) -> None: ...


def digests(prompts: tuple[str, ...]) -> NDArray[np.uint64]:
    """(n,), a number for each prompt by which it is known again, but not read."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "little") for prompt in prompts],
        np.uint64,
    )


def is_fitted_router(folder: Path) -> bool:
    """Does a fitted router of this format lie there, usable or not?"""
    try:
        raw = json.loads((folder / HEADER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and raw.get("format") == FORMAT


def write(folder: Path, facts: Facts, seen: NDArray[np.uint64], models: Mapping[ModelName, Saved]) -> None:
    """Writes all files, `router.json` last: what is half written is no router."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADER).unlink(missing_ok=True)
    for name, model in models.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        model.save(folder / name)
    buffer = io.BytesIO()
    np.save(buffer, np.sort(seen), allow_pickle=False)
    replace_file(folder / PROMPTS, buffer.getvalue())
    header = _Header(**facts.model_dump(), files=_files(folder, models))
    replace_file(folder / HEADER, (header.model_dump_json(indent=1) + "\n").encode())


def read(folder: Path) -> tuple[Facts, NDArray[np.uint64]]:
    """What is known of the router in `folder`, and the digests of its prompts. Raises RouterFileError.

    All files are checked to be those that were written together.
    """
    header = _header(folder / HEADER)
    found = _files(folder, MODELS)
    for name in sorted(header.files.keys() | found.keys()):
        if name not in found:
            raise RouterFileError(f"{folder / name} is missing: fit the router again")
        if header.files.get(name) != found[name]:
            raise corrupt(folder / name, f"it is not the file that {HEADER} was written with")
    seen = np.load(io.BytesIO(read_bytes(folder / PROMPTS)), allow_pickle=False)
    return Facts(**header.model_dump(exclude={"files"})), seen


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
    rows = (header.means, header.costs, *header.quality.values())
    if any(len(row) != len(header.experts) for row in rows):
        raise corrupt(path, f"a row has not one entry for each of the {len(header.experts)} experts")
    return header


def _files(folder: Path, models: Iterable[str]) -> dict[str, str]:
    """Path -> SHA-256 of the files that belong to a fitted router, `router.json` aside."""
    paths = [folder / PROMPTS, *(path for name in sorted(models) for path in sorted((folder / name).rglob("*")))]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }
