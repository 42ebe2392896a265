"""Fitted routers as files: they come back as they were, or say why not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.files import RouterFileError
from routers.folder import ARRAYS, HEADER
from routers.two_level.router import TwoLevelRouter

EXPERTS = ("cook", "poet")
PROMPTS = [f"how long do I boil {food}" for food in "eggs rice pasta beans corn peas kale leeks beets yams".split()] + [
    f"write a verse on {thing}" for thing in "rain snow love time youth sleep night dawn dusk hope".split()
]
CATEGORIES = ["food"] * 10 + ["verse"] * 10
QUALITY = {"food": {"cook": (0.9, 30), "poet": (0.3, 30)}, "verse": {"cook": (0.1, 30), "poet": (0.8, 30)}}


def fit(**changes: Any) -> TwoLevelRouter:
    return TwoLevelRouter.fit(PROMPTS, CATEGORIES, QUALITY, HashEncoder(), **{"fallback": "poet", **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fit().save(tmp_path / "new" / "router")
    return tmp_path / "new" / "router"


@pytest.mark.parametrize("general", ["general", "verse"])
def test_a_router_comes_back_as_it_was(tmp_path: Path, general: str) -> None:
    router = fit(general=general)
    router.save(tmp_path)
    again = TwoLevelRouter.load(tmp_path, HashEncoder())
    for prompt in ["how long do I boil soup", "write a verse on cats", "xyzzy", "", *PROMPTS]:
        for candidates in (EXPERTS, ("cook",), ("cook", "new")):
            assert again.route(prompt, candidates, k=2) == router.route(prompt, candidates, k=2)
    assert (again.experts, again.categories, again.figures) == (router.experts, router.categories, router.figures)


def test_saving_again_replaces_both_files(folder: Path) -> None:
    fit(fallback="cook").save(folder)
    assert TwoLevelRouter.load(folder, HashEncoder()).route("xyzzy plugh", EXPERTS).experts == ("cook",)
    assert sorted(path.name for path in folder.iterdir()) == [HEADER, ARRAYS]


def test_the_aggregator_is_the_loader_s_choice(folder: Path) -> None:
    router = TwoLevelRouter.load(folder, HashEncoder(), aggregator="judge")
    assert router.route(PROMPTS[0], EXPERTS, k=2).aggregator == "judge"
    assert router.route(PROMPTS[0], EXPERTS).aggregator == "single"


@pytest.mark.parametrize("name", [HEADER, ARRAYS])
def test_a_missing_file_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RouterFileError, match=rf"no fitted router: .*{name} is missing; fit it first"):
        TwoLevelRouter.load(folder, HashEncoder())


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / HEADER).unlink()
    (folder / HEADER).mkdir()
    with pytest.raises(RouterFileError, match=rf"{HEADER} cannot be read: Is a directory"):
        TwoLevelRouter.load(folder, HashEncoder())


def test_another_encoder_is_told(folder: Path) -> None:
    with pytest.raises(RouterFileError, match=r"'hash-256' \(256 dimensions\), but 'hash-64' \(64\) is in use"):
        TwoLevelRouter.load(folder, HashEncoder(64))


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        header = json.loads((folder / HEADER).read_text())
        change(header)
        (folder / HEADER).write_text(json.dumps(header))

    return apply


def rewrite(text: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / HEADER).write_text(text)

    return apply


def rearray(**arrays: Any) -> Callable[[Path], None]:
    """Other arrays under a right digest: what a faulty writer could leave."""

    def apply(folder: Path) -> None:
        with np.load(folder / ARRAYS) as found:
            kept = {name: found[name] for name in found if arrays.get(name, 0) is not None}
        np.savez(folder / ARRAYS, **{**kept, **{name: value for name, value in arrays.items() if value is not None}})
        digest = hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()
        edit(lambda header: header.update(arrays_sha256=digest))(folder)

    return apply


def flip(folder: Path) -> None:
    data = bytearray((folder / ARRAYS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ARRAYS).write_bytes(data)


def cut(folder: Path) -> None:
    (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:-200])


def lone(folder: Path) -> None:
    """A single array, which numpy reads where it is asked for an archive."""
    with (folder / ARRAYS).open("wb") as file:
        np.save(file, np.zeros(3))
    digest = hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()
    edit(lambda header: header.update(arrays_sha256=digest))(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite(""), "corrupt"),
        (rewrite("[1, 2]"), "no 'format'"),
        (rewrite("\x00\x01"), "corrupt"),
        (edit(lambda h: h.pop("format")), "no 'format'"),
        (edit(lambda h: h.update(version=1)), "is of version 1, this release reads version 2: fit the router again"),
        (edit(lambda h: h.pop("version")), "is of version None"),
        (edit(lambda h: h.pop("experts")), "experts: Field required"),
        (edit(lambda h: h.update(neighbours=0)), "neighbours: Input should be greater than 0"),
        (edit(lambda h: h.update(distance_threshold="inf")), "distance_threshold: Input should be a finite number"),
        (edit(lambda h: h.update(more=1)), "more: Extra inputs are not permitted"),
        (edit(lambda h: h["experts"].append("third")), "array of shape"),
        (edit(lambda h: h["categories"].append("third")), "array of shape"),
        (flip, f"not the file that {HEADER} was written with"),
        (cut, f"not the file that {HEADER} was written with"),
        (lone, rf"{ARRAYS} is corrupt"),
        (rearray(quality=None), "quality is not a file in the archive"),
        (rearray(coef=np.zeros((2, 3), np.float32)), r"shape \(2, 3\)"),
        (rearray(references=np.zeros((0, 256), np.float32)), r"shape \(0, 256\)"),
        (rearray(first=np.array([0, 2, -1])), "'first' names an expert that does not exist"),
        (rearray(quality=np.array([["a", "b"]] * 3)), "type <U1"),
        (rearray(quality=np.array([[print, print]] * 3, dtype=object)), "allow_pickle=False"),
    ],
)
def test_a_damaged_file_is_told(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(RouterFileError, match=message):
        TwoLevelRouter.load(folder, HashEncoder())


def test_the_arrays_are_plain_numpy_files(folder: Path) -> None:
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        assert set(arrays) == {"coef", "intercept", "references", "quality", "prior", "first"}
        assert all(arrays[name].dtype.kind in "fi" for name in arrays)
