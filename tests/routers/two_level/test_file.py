"""Fitted routers as files: they come back as they were, or say why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.files import RouterFileError
from routers.folder import ARRAYS, HEADER
from routers.two_level.router import TwoLevelRouter
from tests.routers.folder_parts import Damage, edit, rearray

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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(lambda h: h.update(version=3)), "is of version 3, this release reads version 4: fit the router again"),
        (edit(lambda h: h["distance"].update(limit="inf")), "a limit must be finite and over what is typical; got inf"),
        (edit(lambda h: h.update(entropy={"typical": 0.5, "limit": 0.5})), "over what is typical; got 0.5 and 0.5"),
        (edit(lambda h: h["categories"].append("third")), "array of shape"),
        (rearray(quality=None), "quality is not a file in the archive"),
        (rearray(coef=np.zeros((2, 3), np.float32)), r"shape \(2, 3\)"),
        (rearray(whiten=np.eye(256, dtype=np.float32)), r"shape \(256, 256\)"),
        (rearray(references=np.zeros((0, 256), np.float32)), r"shape \(0, 256\)"),
        (rearray(first=np.array([0, 2, -1])), "'first' names an expert that does not exist"),
        (rearray(quality=np.array([["a", "b"]] * 3)), "type <U1"),
        (rearray(quality=np.array([[print, print]] * 3, dtype=object)), "allow_pickle=False"),
    ],
)
def test_a_damaged_file_is_told(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(RouterFileError, match=message):
        TwoLevelRouter.load(folder, HashEncoder())


def test_the_arrays_are_plain_numpy_files(folder: Path) -> None:
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        density = {"style_mean", "style_scale", "whiten", "centres", "reach"}
        assert set(arrays) == {"coef", "intercept", "references", "quality", "prior", "first"} | density
        assert all(arrays[name].dtype.kind in "fi" for name in arrays)
