"""What can happen to the folder of a fitted router."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from routers.folder import ARRAYS, HEADER, digest

Damage = Callable[[Path], object]


def rewrite(text: str) -> Damage:
    return lambda folder: (folder / HEADER).write_text(text)


def edit(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def apply(folder: Path) -> None:
        header = json.loads((folder / HEADER).read_text())
        change(header)
        (folder / HEADER).write_text(json.dumps(header))

    return apply


def rearray(**arrays: Any) -> Damage:
    """Other arrays under a right digest: what a faulty writer could leave."""

    def apply(folder: Path) -> None:
        with np.load(folder / ARRAYS) as found:
            kept = {name: found[name] for name in found if arrays.get(name, 0) is not None}
        np.savez(folder / ARRAYS, **{**kept, **{name: value for name, value in arrays.items() if value is not None}})
        _sign(folder)

    return apply


def lone(folder: Path) -> None:
    """A single array, which numpy reads where it is asked for an archive."""
    with (folder / ARRAYS).open("wb") as file:
        np.save(file, np.zeros(3))
    _sign(folder)


def flip(folder: Path) -> None:
    data = bytearray((folder / ARRAYS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ARRAYS).write_bytes(data)


def cut(folder: Path) -> None:
    (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:-200])


def _sign(folder: Path) -> None:
    """The digest of the arrays that are there."""
    edit(lambda header: header.update(arrays_sha256=digest((folder / ARRAYS).read_bytes())))(folder)
