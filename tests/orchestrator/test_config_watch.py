"""A file that is followed: what changes is read again, and what cannot be used changes nothing."""

import os
from pathlib import Path

from orchestrator.config.load import load_config
from orchestrator.config.watch import Watched

ONE = """
experts:
  - {name: a, source: /models/a, family: f}
router: {kind: fixed, fallback: a}
"""
TWO = ONE.replace("router:", "  - {name: b, source: /models/b, family: f}\nrouter:")


def watched(path: Path) -> Watched:
    return Watched(path, lambda: load_config(path))


def test_a_changed_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "coe.yaml"
    path.write_text(ONE)
    file = watched(path)
    assert file.look() is None
    path.write_text(TWO)
    changed = file.look()
    assert changed is not None
    assert changed.registry().names == ("a", "b")
    assert file.look() is None


def test_a_file_that_cannot_be_used_changes_nothing_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "coe.yaml"
    path.write_text(ONE)
    file = watched(path)
    path.write_text(TWO.replace("fallback: a", "fallback: nobody"))
    assert file.look() is None
    path.unlink()
    assert file.look() is None
    path.write_text(TWO)
    assert file.look() is not None


def test_a_mounted_configmap_changes_by_a_swap_of_links(tmp_path: Path) -> None:
    for name, text in (("..1", ONE), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coe.yaml").write_text(text)
    data, path = tmp_path / "..data", tmp_path / "coe.yaml"
    data.symlink_to("..1")
    path.symlink_to("..data/coe.yaml")
    file = watched(path)
    assert file.look() is None
    (tmp_path / "..new").symlink_to("..2")
    os.replace(tmp_path / "..new", data)
    changed = file.look()
    assert changed is not None
    assert changed.registry().names == ("a", "b")
