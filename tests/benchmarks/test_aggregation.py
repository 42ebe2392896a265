"""The replay of votes: one figure for each method, from what is stored."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import aggregation
from routers.encoders.hashed import HashEncoder
from tests.routers.fitted_parts import quick_models

__all__ = ["quick_models"]

EXPERTS = ("a", "b", "c", "d", "e", "f")


def write(path: Path, *, answers: bool = True) -> None:
    """Six experts that are right as often as not and err each in its own way: votes help."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "expert", "score", "category", "split", "answer", "gold"])
        for number in range(700):
            word = ("boil", "rhyme")[number % 2]
            for expert in EXPERTS:
                right = rng.random() < 0.55
                answer = "A" if right else rng.choice(list("BCDEFGHIJ"))
                row = [number, f"{word} {number}", expert, float(right), word, ("train", "val")[number // 2 % 2]]
                writer.writerow([*row, *((answer, "A") if answers else ("", ""))])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(aggregation, "MiniLMEncoder", lambda threads: HashEncoder())
    monkeypatch.setattr(
        "sys.argv", ["aggregation", "--data", str(tmp_path), "--json", "--picture", str(tmp_path / "p.svg")]
    )
    return tmp_path


@pytest.mark.usefixtures("quick_models")
def test_figures_table_and_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run / "kinds.labelled.csv")
    aggregation.main()
    output = capsys.readouterr().out
    figures = json.loads(output.splitlines()[-1])["figures"]
    assert figures["sets"]["kinds"].items() <= figures.items()
    assert figures["scores"]["certain"] == figures["vote_5"], "patience 1 changes no winner"
    assert figures["best_single"] < figures["vote_3"] < figures["vote_5"]
    assert figures["calls"]["best_single"] == 1 < figures["dynamic_mean_calls"] <= figures["calls"]["certain"] < 5
    assert figures["intervals"]["vote_5"][0] > 0
    assert figures["gains"]["vote_5"] == pytest.approx(figures["vote_5"] - figures["best_single"], abs=0.011)
    assert figures["over_router"]["vote_5"][0] == pytest.approx(
        figures["vote_5"] - figures["scores"]["router_top_1"], abs=0.011
    )
    assert figures["self_consistency"] is None
    assert set(figures["curves"]) == {"3", "5", "6"}
    assert "vote of the router's 5" in output
    root = ElementTree.fromstring((run / "p.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "best single" in "".join(root.itertext())


@pytest.mark.usefixtures("quick_models")
def test_a_set_without_answers_is_left_out_and_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run / "kinds.labelled.csv", answers=False)
    with pytest.raises(SystemExit, match=r"no set in .* has the columns answer and gold"):
        aggregation.main()
    assert "kinds is left out: it takes the answers of 5 experts" in capsys.readouterr().out
