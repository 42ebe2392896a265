"""Fitted skill routers as files: they come back as they were, or say why not."""

from pathlib import Path

import numpy as np
import pytest

from routers.encoders.hashed import HashEncoder
from routers.files import RouterFileError
from routers.folder import ARRAYS
from routers.skill.router import SkillRouter
from tests.routers.folder_parts import Damage, edit
from tests.routers.skill.parts import EXPERTS, KINDS, fitted, keywords

NAMES = ["boil water pot", "rhyming verse", "empire century"]


@pytest.fixture(scope="module")
def router() -> SkillRouter:
    return fitted()


@pytest.fixture
def folder(router: SkillRouter, tmp_path: Path) -> Path:
    router.save(tmp_path / "new" / "skill")
    return tmp_path / "new" / "skill"


def same(first: SkillRouter, second: SkillRouter) -> None:
    for prompt in [KINDS[kind][0] for kind in KINDS] + ["zebra", ""]:
        for candidates in (EXPERTS, ("cook",), ("cook", "new")):
            assert first.route(prompt, candidates, k=2) == second.route(prompt, candidates, k=2)
    assert (first.experts, first.skills, first.figures, first.trimmed) == (
        second.experts,
        second.skills,
        second.figures,
        second.trimmed,
    )


def test_a_router_comes_back_as_it_was(router: SkillRouter, folder: Path) -> None:
    same(router, SkillRouter.load(folder, HashEncoder()))


def test_so_does_one_with_given_skills_and_one_with_a_tagger(tmp_path: Path) -> None:
    given = fitted(vocabulary=NAMES)
    given.save(tmp_path / "given")
    same(given, SkillRouter.load(tmp_path / "given", HashEncoder()))
    tagged = fitted(tag=keywords)
    tagged.save(tmp_path / "tagged")
    same(tagged, SkillRouter.load(tmp_path / "tagged", HashEncoder(), keywords))
    with pytest.raises(ValueError, match="needs a `tag`"):
        SkillRouter.load(tmp_path / "tagged", HashEncoder())


def test_what_was_learned_later_is_kept(tmp_path: Path) -> None:
    router = fitted(vocabulary=NAMES)
    router.add_expert("dean", ["write a rhyming verse"] * 5, [1.0] * 5)
    router.observe("write a rhyming verse", "poet", 0.0)
    router.save(tmp_path)
    again = SkillRouter.load(tmp_path, HashEncoder())
    assert again.experts == ("cook", "dean", "poet", "sage")
    np.testing.assert_array_equal(again.predict(NAMES), router.predict(NAMES))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(lambda h: h.update(width=0)), "width: Input should be greater than 0"),
        (edit(lambda h: h.update(slope="inf")), "slope: Input should be a finite number"),
        (edit(lambda h: h["grains"].append(3)), "are not those of"),
        (edit(lambda h: h.update(source="oracle")), "source: Input should be 'encoder' or 'tagger'"),
    ],
)
def test_a_damaged_file_is_told(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(RouterFileError, match=message):
        SkillRouter.load(folder, HashEncoder())


def test_the_arrays_are_plain_numpy_files(folder: Path) -> None:
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind == "f" for name in arrays)
