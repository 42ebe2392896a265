"""Folders of fitted routers of either kind: a router that cannot be read says why."""

from pathlib import Path

import pytest

from routers.encoders.hashed import HashEncoder
from routers.files import RouterFileError
from routers.folder import ARRAYS, HEADER
from routers.skill.router import SkillRouter
from routers.two_level.router import TwoLevelRouter
from tests.routers.folder_parts import Damage, cut, edit, flip, lone, rewrite
from tests.routers.skill.parts import world

Kind = type[SkillRouter] | type[TwoLevelRouter]


@pytest.fixture(scope="module", params=[SkillRouter, TwoLevelRouter])
def router(request: pytest.FixtureRequest) -> SkillRouter | TwoLevelRouter:
    kind: Kind = request.param
    return kind.fit_labelled(world(), HashEncoder())


@pytest.fixture
def folder(router: SkillRouter | TwoLevelRouter, tmp_path: Path) -> Path:
    router.save(tmp_path / "new" / "router")
    return tmp_path / "new" / "router"


def test_it_holds_two_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [HEADER, ARRAYS]


@pytest.mark.parametrize("name", [HEADER, ARRAYS])
def test_a_missing_file_is_told(router: SkillRouter | TwoLevelRouter, folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RouterFileError, match=rf"no fitted router: .*{name} is missing; fit it first"):
        router.load(folder, HashEncoder())


def test_a_file_that_cannot_be_read_is_told(router: SkillRouter | TwoLevelRouter, folder: Path) -> None:
    (folder / HEADER).unlink()
    (folder / HEADER).mkdir()
    with pytest.raises(RouterFileError, match=rf"{HEADER} cannot be read: Is a directory"):
        router.load(folder, HashEncoder())


def test_another_encoder_is_told(router: SkillRouter | TwoLevelRouter, folder: Path) -> None:
    with pytest.raises(RouterFileError, match=r"'hash-256' \(256 dimensions\), but 'hash-64' \(64\) is in use"):
        router.load(folder, HashEncoder(64))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite(""), "corrupt"),
        (rewrite("[1, 2]"), "no 'format'"),
        (rewrite("\x00\x01"), "corrupt"),
        (edit(lambda h: h.pop("format")), "no 'format'"),
        (edit(lambda h: h.update(version=9)), r"is of version 9, this release reads version \d: fit the router again"),
        (edit(lambda h: h.pop("version")), "is of version None"),
        (edit(lambda h: h.pop("experts")), "experts: Field required"),
        (edit(lambda h: h.update(more=1)), "more: Extra inputs are not permitted"),
        (edit(lambda h: h["experts"].append("third")), "array of shape"),
        (flip, f"not the file that {HEADER} was written with"),
        (cut, f"not the file that {HEADER} was written with"),
        (lone, rf"{ARRAYS} is corrupt"),
    ],
)
def test_a_damaged_file_is_told(
    router: SkillRouter | TwoLevelRouter, folder: Path, damage: Damage, message: str
) -> None:
    damage(folder)
    with pytest.raises(RouterFileError, match=message):
        router.load(folder, HashEncoder())
