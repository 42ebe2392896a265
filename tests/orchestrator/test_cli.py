"""The command line, as far as it needs no service."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.settings import SETTINGS

README = Path(__file__).parents[2] / "README.md"
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

    def answer(_: Any, method: str, path: str, body: dict[str, str]) -> dict[str, Any]:
        assert (method, path) == ("POST", "/v1/route")
        return decision if "Mira Stone" in body["prompt"] else {}

    monkeypatch.setenv("COE_API_KEY", KEY)
    monkeypatch.setattr(cli, "_request", answer)
    [shown] = [part for part in README.read_text().split("$ ") if part.startswith("coe route")]
    command, _, output = shown.partition("```")[0].partition("\n")
    assert run("route", command.split('"')[1]) == (0, output)
