"""The folder of several models: `router.json` (what was seen and chosen), `prompts.npy`, and a folder for each."""

import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from routers.files import RouterFileError, corrupt, read_bytes, replace_file
from routers.folder import HEADER, Header, changed, digest, holds, read_header, write_header

PROMPTS = "prompts.npy"

ModelName = Literal["best_single", "two_level", "skill", "both"]
MODELS: tuple[ModelName, ...] = ("two_level", "skill")
"""Those that have a folder of their own. `both` is made of them, and the best single expert is known by the means."""


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


class Facts(Header):
    """What a fitted router knows besides its models.

    experts: sorted. means: their mean scores on the fitted prompts. costs: their mean costs, None where unknown.
    quality: category -> for each expert (mean score, number of prompts); empty without categories.
    default: the model that answers for one expert, several: for more than one.
    prompts: number of fitted prompts.
    """

    format: Literal["coe-fitted-router"] = "coe-fitted-router"
    version: Literal[1] = 1
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
    return holds(folder, Facts)


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
    write_header(folder, header)


def read(folder: Path) -> tuple[Facts, NDArray[np.uint64]]:
    """What is known of the router in `folder`, and the digests of its prompts. Raises RouterFileError.

    All files are checked to be those that were written together.
    """
    header = read_header(folder, _Header)
    rows = (header.means, header.costs, *header.quality.values())
    if any(len(row) != len(header.experts) for row in rows):
        raise corrupt(folder / HEADER, f"a row has not one entry for each of the {len(header.experts)} experts")
    found = _files(folder, MODELS)
    for name in sorted(header.files.keys() | found.keys()):
        if name not in found:
            raise RouterFileError(f"{folder / name} is missing: fit the router again")
        if header.files.get(name) != found[name]:
            raise changed(folder / name)
    seen = np.load(io.BytesIO(read_bytes(folder / PROMPTS)), allow_pickle=False)
    return Facts(**header.model_dump(exclude={"files"})), seen


def _files(folder: Path, models: Iterable[str]) -> dict[str, str]:
    """Path -> SHA-256 of the files that belong to a fitted router, `router.json` aside."""
    paths = [folder / PROMPTS, *(path for name in sorted(models) for path in sorted((folder / name).rglob("*")))]
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in paths if path.is_file()}
