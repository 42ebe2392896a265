"""`coe keys` against a real Redis."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main as cli

Run = Callable[..., str]
CONFIG = """
experts:
  - {name: sql, source: ./sql}
  - {name: math, source: ./math}
router: {kind: fixed, fallback: sql}
ensembles:
  pair: {experts: [sql, math], aggregator: judge}
limits:
  per_key: {requests_per_minute: 60}
"""


@pytest.fixture
def coe(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `coe keys WORDS` and returns its output, where it ends with the code `ends`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COE_REDIS_URL", redis_url)
    (tmp_path / "coe.yaml").write_text(CONFIG)

    def run(*words: str, ends: int = 0) -> str:
        result = CliRunner().invoke(cli.app, ["keys", *words])
        assert result.exit_code == ends, result.output
        return result.output

    return run


def shown(text: str) -> dict[str, str]:
    """The lines of `show`, by their first word; limits by their name."""
    rows = {}
    for line in text.splitlines():
        word, value = re.split(r"\s+", line, maxsplit=1)
        if word == "limit":
            word, value = value.split(" ", 1)
        rows[word] = value
    return rows


def test_a_key_is_made_with_what_it_may_do_and_shown(coe: Run) -> None:
    made = coe(
        "create", "app", "--experts", "sql,math", "--ensembles", "pair", "--priority", "batch", "--expires", "30d",
        "--limit", "tokens_per_day=5000", "--limit", "requests_per_minute=none", "--admin",
    )  # fmt: skip
    key = made.splitlines()[0]
    assert re.fullmatch(r"coe-[\w-]{43}", key)
    rows = shown(coe("show", "app"))
    assert (rows["state"], rows["experts"], rows["ensembles"]) == ("active", "sql, math", "ensemble/pair")
    assert (rows["admin"], rows["priority"]) == ("yes", "batch")
    assert (rows["tokens_per_day"], rows["requests_per_minute"]) == ("5000", "none")
    assert key not in coe("list") + coe("show", "app", "--json")


def test_a_second_key_of_a_name_is_noted(coe: Run) -> None:
    assert "another key" not in coe("create", "app")
    assert "another key" not in coe("rotate", "app")
    assert "another key of this name" in coe("create", "app")


def test_a_key_with_nothing_of_its_own_has_the_services_limits(coe: Run) -> None:
    coe("create", "app")
    rows = shown(coe("show", "app"))
    assert (rows["experts"], rows["ensembles"], rows["admin"], rows["expires"]) == ("all", "all", "no", "never")
    assert rows["requests_per_minute"] == "60 (default)"


def test_a_key_is_changed_where_something_is_given(coe: Run) -> None:
    coe("create", "app", "--experts", "sql", "--limit", "concurrent=2")
    rows = shown(
        coe("update", "app", "--experts", "all", "--disable", "--name", "web", "--limit", "concurrent=default")
    )
    assert (rows["name"], rows["state"], rows["experts"]) == ("web", "disabled", "all")
    assert "concurrent" not in rows
    assert "(disabled)" in coe("list")
    assert shown(coe("update", "web", "--enable"))["state"] == "active"
    assert "nothing to change" in coe("update", "web", ends=1)


def test_a_key_is_rotated_and_revoked(coe: Run) -> None:
    coe("create", "app")
    assert "the key before it ends in 15m" in coe("rotate", "app", "--grace", "15m")
    assert len(coe("list").splitlines()) == 2
    infos = json.loads(coe("list", "--json"))
    assert infos[1]["lineage"] == infos[0]["id"]
    coe("revoke", "app")
    assert coe("list") == ""
    assert "no key goes by 'app'" in coe("revoke", "app", ends=1)


def test_what_a_key_has_used_is_shown_beside_its_limits(coe: Run) -> None:
    coe("create", "app", "--limit", "usd_per_day=1.5")
    lines = dict(re.split(r"\s+", line, maxsplit=1) for line in coe("usage", "app").splitlines())
    assert lines["requests_per_minute"] == "0 of 60"
    assert lines["usd_per_day"] == "0 of 1.5"
    assert lines["tokens_per_day"] == "0 (no limit)"
    assert json.loads(coe("usage", "app", "--json"))["usd_per_day"] == {"used": 0.0, "limit": 1.5}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--limit", "tokens_per_dag=1"), "did you mean 'tokens_per_day'"),
        (("--limit", "5"), "allowed: NAME=NUMBER"),
        (("--priority", "high"), "allowed: interactive, normal, batch"),
        (("--expires", "soon"), "allowed: never, a duration such as 90d, or a date"),
        (("--experts", ","), "got no name"),
    ],
)
def test_what_is_wrong_is_told_and_no_key_is_made(coe: Run, words: tuple[str, ...], why: str) -> None:
    assert why in coe("create", "app", *words, ends=1)
    assert coe("list") == ""


@pytest.mark.parametrize("name", ["", "two\nlines", "\x1b[2J", "x" * 101])
def test_a_key_has_a_name_of_one_line(coe: Run, name: str) -> None:
    assert "allowed: 1 to 100 printable characters" in coe("create", name, ends=1)
    assert coe("list") == ""


def test_a_name_that_the_configuration_lacks_is_noted(coe: Run) -> None:
    assert "note: no expert is named 'maths'; did you mean 'math'? in this configuration" in coe(
        "create", "app", "--experts", "maths"
    )


def test_a_grace_is_a_duration(coe: Run) -> None:
    coe("create", "app")
    assert "such as 24h" in coe("rotate", "app", "--grace", "long", ends=1)
