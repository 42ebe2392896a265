"""The folder of a fitted router: `router.json` and the files beside it, of which it holds the SHA-256.

Nothing in it can execute anything when it is read: JSON, and numpy arrays without pickle.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routers.encoders.base import Encoder
from routers.files import RouterFileError, corrupt, read_bytes, replace_file

HEADER, ARRAYS = "router.json", "router.npz"

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]


class Header(BaseModel):
    """What every `router.json` begins with. A kind of router sets `format` and `version` and adds what it knows.

    encoder, dim: of the encoder that the router was fitted with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    version: int
    encoder: str
    dim: int = Field(gt=0)


Kind = TypeVar("Kind", bound=Header)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


# Writing


def archived(arrays: Arrays) -> bytes:
    """The arrays as a file of numpy; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes `allow_pickle` for one of the arrays
    return buffer.getvalue()


def write_router(folder: Path, header: Header, arrays: bytes) -> None:
    """Writes both files into `folder`, which is made if need be; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / ARRAYS, arrays)
    write_header(folder, header)


def write_header(folder: Path, header: Header) -> None:
    """Writes `router.json`, which comes last: what is half written is no router."""
    replace_file(folder / HEADER, (header.model_dump_json(indent=1) + "\n").encode())


# Reading


def holds(folder: Path, kind: type[Header]) -> bool:
    """Does a router of that kind lie there, usable or not?"""
    try:
        raw = json.loads((folder / HEADER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and raw.get("format") == _own(kind, "format")


def read_header(folder: Path, kind: type[Kind]) -> Kind:
    """The folder's `router.json`. Raises RouterFileError."""
    path = folder / HEADER
    own, version = _own(kind, "format"), _own(kind, "version")
    try:
        raw = json.loads(read_bytes(path))
    except ValueError as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(raw, dict) or not isinstance(found := raw.get("format"), str):
        raise corrupt(path, f"it has no 'format' of {own!r}")
    if found != own:
        raise RouterFileError(
            f"{path} is of format {found!r}, not {own!r}: name the folder that `coe router fit` made, not one inside it"
        )
    if raw.get("version") != version:
        raise RouterFileError(
            f"{path} is of version {raw.get('version')!r}, this release reads version {version}: fit the router again"
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise corrupt(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _own(kind: type[Header], field: str) -> object:
    return kind.model_fields[field].default


def same_encoder(folder: Path, header: Header, encoder: Encoder | None) -> Encoder:
    """`encoder` if it is the one that the router was fitted with. Raises RouterFileError."""
    if encoder is None or (encoder.name, encoder.dim) != (header.encoder, header.dim):
        got = "none is given" if encoder is None else f"{encoder.name!r} ({encoder.dim}) is in use"
        raise RouterFileError(
            f"the router in {folder} was fitted with encoder {header.encoder!r} ({header.dim} dimensions), but {got}: "
            "use the same encoder (router.encoder in coe.yaml) or fit the router again"
        )
    return encoder


def changed(path: Path) -> RouterFileError:
    """What is wrong with a file of another digest than `router.json` has."""
    return corrupt(path, f"it is not the file that {HEADER} was written with")


@contextmanager
def opened(folder: Path, sha256: str) -> Iterator[Arrays]:
    """The folder's arrays. What is wrong with one, a ValueError or KeyError inside the block, is a RouterFileError."""
    path = folder / ARRAYS
    data = read_bytes(path)
    if digest(data) != sha256:
        raise changed(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            yield arrays
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:  # TypeError: a lone .npy array
        raise corrupt(path, str(error)) from error


def checked(array: Array, kind: str, shape: tuple[int | None, ...]) -> Array:
    """`array` if it has this kind of dtype ("f", "i") and shape (None: any length above 0). Raises ValueError."""
    fits = array.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype.kind != kind or not fits:
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype} where {shape} was expected")
    return array
