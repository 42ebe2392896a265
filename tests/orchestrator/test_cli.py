"""The command line, as far as it needs no service."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.cli import reference
from orchestrator.cli.common import Target
from orchestrator.settings import SETTINGS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
KEY = "coe-0123456789abcdef"


def run(*words: str) -> tuple[int, str]:
    """Exit code and output, with what goes to standard error."""
    result = CliRunner().invoke(cli.app, words)
    return result.exit_code, result.output


def test_watch_and_json_do_not_go_together() -> None:
    assert run("experts", "--watch", "--json") == (1, "coe: --watch and --json do not go together: leave one out\n")


def test_settings_are_shown_with_their_origin_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coe.yaml").write_text("server: {port: 9000, redis_url: 'redis://ada:hunter2@redis:6379/0'}\n")
    for name in ("COE_HOST", "COE_PORT", "COE_REDIS_URL", "RAY_ADDRESS", "COE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COE_API_KEY", KEY)
    code, text = run("serve", "--show-settings", "--home", "data")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert code == 0
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["home"] == [str(tmp_path / "data"), "[flag]"]
    assert rows["port"] == ["9000", "[coe.yaml]"]
    assert rows["host"] == ["127.0.0.1", "[default]"]
    assert rows["api_key"] == ["(given)", "[COE_API_KEY]"]
    assert rows["redis_url"] == ["redis://ada:***@redis:6379/0", "[coe.yaml]"]
    assert not (tmp_path / "data").exists()


def test_a_route_is_shown_as_the_readme_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decision = {
        "experts": ["smol-json"],
        "reason": "json (100 %): smol-json is the best of 10 for this category",
        "probabilities": {"json": 0.9998, "shell": 0.0001, "regex": 0.0, "language": 0.0, "logs": 0.0},
    }

    def answer(_: Target, method: str, path: str, body: dict[str, str]) -> dict[str, Any]:
        assert (method, path) == ("POST", "/v1/route")
        return decision if "Mira Stone" in body["prompt"] else {}

    monkeypatch.setenv("COE_API_KEY", KEY)
    monkeypatch.setattr(Target, "ask", answer)
    [shown] = [part for part in README.read_text().split("$ ") if part.startswith("coe route")]
    command, _, output = shown.partition("```")[0].partition("\n")
    assert run("route", command.split('"')[1]) == (0, output)


def test_the_page_of_all_commands_is_current() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), "docs/cli.md is out of date: python -m orchestrator.cli.reference"


def test_the_page_has_every_command_with_its_flags() -> None:
    page = reference.page()
    for command in ("serve", "setup", "doctor", "chat", "route", "bench", "experts", "experts train", "keys create"):
        assert f"## `coe {command}`" in page
    assert "| `--concurrency`, `-c` | `8` | How many at a time. |" in page
    assert "coe route [OPTIONS] PROMPT" in page
    assert "coe chat [OPTIONS] [PROMPT]" in page


def completed(shell: str, words: str) -> list[str]:
    """What a shell would offer after these words: as its installed script asks for it."""
    typed = words.split(" ")
    env = {
        **os.environ,
        "_COE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed) - 1),
    }
    program = "import sys; sys.argv = ['coe']; from orchestrator.cli.main import app; app(prog_name='coe')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    offered = " ".join(completed(shell, "coe ro"))
    assert "route" in offered
    assert "router" in offered
    assert "serve" not in offered


def test_a_shell_completes_commands_of_groups_and_flags() -> None:
    assert {"create", "list", "revoke"} <= set(completed("bash", "coe keys "))
    assert "--concurrency" in completed("bash", "coe bench --con")


def test_the_script_for_a_shell_is_shown() -> None:
    env = {**os.environ, "_COE_COMPLETE": "source_bash"}
    program = "import sys; sys.argv = ['coe']; from orchestrator.cli.main import app; app(prog_name='coe')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "_COE_COMPLETE=complete_bash" in done.stdout


def test_each_group_of_commands_has_a_file_of_its_own() -> None:
    for file in (ROOT / "orchestrator" / "cli").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file.name
