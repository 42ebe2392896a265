"""The README tells no lies that can be checked."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from orchestrator.cli.main import app
from orchestrator.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_commands_that_it_names_exist() -> None:
    root = get_command(app)
    commands = getattr(root, "commands")  # noqa: B009  # a click group; typer promises less
    named = set(re.findall(r"`coe (\w+)", README))
    assert {"serve", "route", "chat", "experts", "keys"} <= named <= set(commands)
    verbs = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert verbs == {"serve", "test"}
    assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in verbs)


def test_the_settings_that_it_names_are_all_there_are() -> None:
    for setting in SETTINGS:
        if setting.name != "config":
            assert f"`{setting.env}`" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
