"""The folder of a fitted router: whatever happens while it is written, what is there is whole or told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from routers import fitted_file
from routers.encoders.hashed import HashEncoder
from routers.files import RouterFileError
from routers.fitted import FittedRouter, fit_labelled
from routers.fitted_file import check_place, is_fitted_router
from tests.routers.fitted_parts import Blind, labelled, quick_models

__all__ = ["quick_models"]
pytestmark = pytest.mark.usefixtures("quick_models")


def router(seed: int = 0) -> FittedRouter:
    return fit_labelled(labelled(seed=seed), HashEncoder())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupted(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The second of two models cannot be saved."""

    def save(self: Blind, folder: Path) -> None:
        raise error

    monkeypatch.setattr(Blind, "save", save)


def test_an_interrupted_save_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = router()
    interrupted(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fitted.save(tmp_path / "new" / "router")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_the_router_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    router().save(tmp_path)
    before, other = files(tmp_path), router(seed=5)
    interrupted(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        other.save(tmp_path)
    assert files(tmp_path) == before


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = router()
    interrupted(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(RouterFileError, match=r"/r cannot be written: No space left on device; name another folder$"):
        fitted.save(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moves", range(4))
def test_a_save_that_dies_between_two_files_is_told_and_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    router().save(tmp_path / "old")
    new = router(seed=5)
    new.save(tmp_path / "whole")
    done: list[Path] = []

    def dying(move: Callable[..., None]) -> Callable[[Path, Path], None]:
        def replace(source: Path, target: Path) -> None:
            if isinstance(source, Path):  # not the temporary file that becomes `router.json`
                if len(done) == moves:
                    raise KeyboardInterrupt
                done.append(target)
            move(source, target)

        return replace

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        for folder in ("old", "fresh"):
            done.clear()
            with pytest.raises(KeyboardInterrupt):
                new.save(tmp_path / folder)
    for folder in ("old", "fresh"):
        if moves:
            with pytest.raises(RouterFileError, match="fit the router again"):
                FittedRouter.load(tmp_path / folder, HashEncoder())
        check_place(tmp_path / folder)
        new.save(tmp_path / folder)
        assert files(tmp_path / folder) == files(tmp_path / "whole")


def test_what_else_is_in_the_folder_stays_and_what_a_killed_save_left_goes(tmp_path: Path) -> None:
    left = tmp_path / fitted_file._NEW / "two_level"
    left.mkdir(parents=True)
    (left / "router.npz").write_bytes(b"half")
    check_place(tmp_path)
    assert not left.exists()
    router().save(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    router(seed=5).save(tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_place_is_checked_and_left_as_it_was(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "router")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(RouterFileError, match="holds something that is no fitted router"):
        check_place(tmp_path)
    with pytest.raises(RouterFileError, match=r"labels.csv/r cannot be written: Not a directory; name another folder$"):
        check_place(tmp_path / "labels.csv" / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
    assert not is_fitted_router(tmp_path)
