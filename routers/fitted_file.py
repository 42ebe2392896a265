"""The folder of several models: `router.json` (what was seen and chosen), `prompts.npy`, and a folder for each."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from routers.files import RouterFileError, corrupt, read_bytes
from routers.folder import HEADER, Header, changed, digest, holds, read_header, write_header

PROMPTS = "prompts.npy"
_NEW = ".coe-router-new"
"""Below the folder: where a router is written before its files take their places."""

ModelName = Literal["best_single", "two_level", "skill", "both"]
MODELS: tuple[ModelName, ...] = ("two_level", "skill")
"""Those that have a folder of their own. `both` is made of them, and the best single expert is known by the means."""


class Chosen(BaseModel):
    """What cross-validation said about the models on the fitted prompts, in shares.

    scores: model -> mean score; votes: model -> mean score of the weighted vote of three, where answers are known.
    gains: model -> lower and upper end of the 95 % interval of its lead over the best single expert.
    patience: of the votes, see `routers.evaluation.patience`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(ge=2)
    scores: dict[ModelName, FiniteFloat]
    votes: dict[ModelName, FiniteFloat]
    gains: dict[ModelName, tuple[FiniteFloat, FiniteFloat]]
    patience: FiniteFloat = Field(1.0, ge=0, le=1)


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


def check_place(folder: Path) -> None:
    """Raises RouterFileError if `write` could not put a router there, or something else is there. Changes nothing."""
    with _workplace(folder):
        others = any(path.name != _NEW for path in folder.iterdir())
        if others and not is_fitted_router(folder):
            raise RouterFileError(f"{folder} holds something that is no fitted router; name a new or an empty folder")


def write(folder: Path, facts: Facts, seen: NDArray[np.uint64], models: Mapping[ModelName, Saved]) -> None:
    """Writes all files, then puts them into their places: until then a router that is there already stays whole.

    `router.json` takes its place first. It has the digests of all others, so whatever happens there is either no
    router, or one of which `read` says what is wrong, and that may be replaced. Raises RouterFileError.
    """
    with _workplace(folder) as new:
        for name, model in models.items():
            model.save(new / name)
        buffer = io.BytesIO()
        np.save(buffer, np.sort(seen), allow_pickle=False)
        (new / PROMPTS).write_bytes(buffer.getvalue())
        write_header(new, _Header(**facts.model_dump(), files=_files(new, models)))
        for entry in (HEADER, PROMPTS, *models):
            if (folder / entry).is_dir():
                shutil.rmtree(folder / entry)
            os.replace(new / entry, folder / entry)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """An empty folder inside of `folder`. Both are made, and gone again afterwards if they were and hold nothing."""
    new = folder / _NEW
    made: list[Path] = []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        shutil.rmtree(new, ignore_errors=True)  # of one that was killed
        new.mkdir(parents=True)
        yield new
    except OSError as error:
        raise RouterFileError(f"{folder} cannot be written: {error.strerror}; name another folder") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # it holds the router
                path.rmdir()


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
