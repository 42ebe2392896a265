"""The routing benchmark: all methods of all sets in one table, and what is missing is told."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import routing, routing_peers
from routers.encoders.hashed import HashEncoder
from tests.routers.fitted_parts import EXPERTS, labelled, quick_models

__all__ = ["quick_models"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One set of two splits."""
    known = labelled(160)
    with (tmp_path / "kinds.labelled.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "expert", "score", "category", "split"])
        assert known.categories is not None
        for i, (prompt, category) in enumerate(zip(known.prompts, known.categories, strict=True)):
            split = "val" if i // 2 % 2 else "train"
            writer.writerows(
                [i, prompt, expert, known.scores[i, j], category, split] for j, expert in enumerate(EXPERTS)
            )
    return tmp_path


@pytest.mark.usefixtures("quick_models")
def test_one_table_has_every_set_and_method(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(routing, "MiniLMEncoder", lambda threads: HashEncoder())
    monkeypatch.setattr(routing, "PEERS", {"semantic-router": routing_peers.semantic_router})
    monkeypatch.setattr("sys.argv", ["routing", "--data", str(data), "--vectors", str(data / "vectors"), "--json"])
    for _ in range(2):  # the second run has the vectors of the first
        routing.main()
        output = capsys.readouterr().out
        figures = json.loads(output.splitlines()[-1])["figures"]
        methods = {row["method"]: row for row in figures["rows"]}
        assert list(methods) == [
            "random", "best single", "two-level", "skill", "both together", "default", "category oracle",
            "prompt oracle", "MiniLM kNN(60)", "TF-IDF kNN(60)",
        ]  # fmt: skip
        assert methods["two-level"]["low"] > 0
        assert methods["default"]["score"] == methods["two-level"]["score"]
        assert {row["set"] for row in figures["rows"]} == {"kinds"}
        assert figures["missing"] == {"semantic-router on kinds": "semantic_router is not installed"}
        assert "semantic-router on kinds is missing: semantic_router is not installed" in output
    assert len(list((data / "vectors").iterdir())) == 1


def test_a_peer_that_fails_is_told(tmp_path: Path) -> None:
    false, silent = Path("/bin/false"), Path("/bin/true")
    assert routing._asked(false, tmp_path, "routellm mf") == {"missing": "it failed: without a word"}
    assert routing._asked(silent, tmp_path, "routellm mf") == {"missing": "it failed: it gave no answer"}
