"""`coe profile` as a user runs it, on fake engines."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.profile import ask as profile_ask
from orchestrator.profile.files import LABELLED, PROFILE

CONFIG = """
experts:
  - {name: ada, source: models/ada, family: small}
  - {name: bob, source: models/bob, family: small}
families: {small: {engine: fake}}
router: {kind: fixed, fallback: ada}
"""
QUESTIONS = [
    {"prompt_id": f"q{number}", "prompt": f"say {number}", "gold": gold, "method": "contains", "split": split}
    for number, (gold, split) in enumerate(
        [("ada", "train"), ("heard", "train"), ("nothing", "train"), ("ada", "golden")]
    )
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("COE_HOME", "COE_CONFIG", "COE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    Path("coe.yaml").write_text(CONFIG)
    Path("q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in QUESTIONS))
    return tmp_path


def coe(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    result = CliRunner().invoke(cli.app, ["profile", *words])
    return result.exit_code, result.stdout, result.stderr


MEASURE = ("--data", "q.jsonl", "--out", "out")


def test_a_profile_is_a_table_and_two_files(folder: Path) -> None:
    code, out, err = coe(*MEASURE)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:2] == ["expert", "right"]
    assert [(row[0], row[1]) for row in rows[1:]] == [("ada", "66.7%"), ("bob", "33.3%")]
    assert rows[1][2:6] == ["20.8%", "to", "93.9%", "3"]
    assert err.endswith("8 answers are new; wrote out/profile.json and out/labelled.jsonl\n")
    assert json.loads((folder / "out" / PROFILE).read_text())["golden"]["questions"] == 1
    assert len((folder / "out" / LABELLED).read_text().splitlines()) == 8
    assert coe(*MEASURE)[2].endswith("0 answers are new; wrote out/profile.json and out/labelled.jsonl\n")


def test_who_judges_and_writes_well_is_another_table(folder: Path) -> None:
    assert coe(*MEASURE)[0] == 0
    code, out, err = coe(*MEASURE, "--aggregators", "--shots", "2")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:3] == ["category", "expert", "as"]
    assert sorted((*row[:3], row[-1]) for row in rows[1:]) == [
        ("all", name, role, "2") for name in ("ada", "bob") for role in ("judge", "writer")
    ]
    assert err.endswith("4 tasks for each expert, 8 answers are new; wrote out/profile.json\n")
    written = json.loads((folder / "out" / PROFILE).read_text())["aggregation"]
    assert set(written["writing"]["all"]) == set(written["judging"]["all"]) == {"ada", "bob"}


def test_a_new_expert_is_added(folder: Path) -> None:
    assert coe(*MEASURE, "--experts", "ada")[0] == 0
    code, out, err = coe(*MEASURE, "--add", "bob", "--shots", "2")
    assert code == 0, err
    assert sorted(line.split()[0] for line in out.splitlines()[1:]) == ["ada", "bob"]
    assert "3 answers are new" in err, "two questions and the golden one"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--out", "out"), "--data is missing"),
        ((*MEASURE, "--experts", "adda"), "no expert is named 'adda' (2 are there); did you mean 'ada'?"),
        ((*MEASURE, "--score", "exakt"), "no scoring method 'exakt'; did you mean 'exact'"),
        (("--data", "none.jsonl", "--out", "out"), "none.jsonl cannot be read: No such file or directory"),
        ((*MEASURE, "--aggregators"), "there is no profile in out, and so no drafts; make one: coe profile"),
        ((*MEASURE, "--aggregators", "--label-free"), "--aggregators takes gold answers: leave --label-free out"),
        ((*MEASURE, "--label-free"), "label-free: a consensus takes at least 3 experts; got 2"),
        ((*MEASURE, "--url", "http://127.0.0.1:1"), "the environment variable COE_API_KEY is not set"),
        ((*MEASURE, "--url", "http://127.0.0.1:1", "--key", "MY_KEY"), "the environment variable MY_KEY is not set"),
        (("--feedback", "--out", "out"), "there is no profile in out; make one: coe profile --data FILE --out out"),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_sentence(folder: Path, words: tuple[str, ...], told: str) -> None:
    code, _, err = coe(*words)
    assert code == 1
    [line] = [line for line in err.splitlines() if line.startswith("coe: ")]
    assert told in line
    assert "Traceback" not in err


def test_a_wrong_line_is_named(folder: Path) -> None:
    with (folder / "q.jsonl").open("a") as file:
        file.write('{"prompt": "x", "split": "train"}\n')
    code, _, err = coe(*MEASURE)
    assert (code, err) == (
        1,
        "coe: q.jsonl, line 5: no 'gold', the right answer; where nobody knows it, use --label-free\n",
    )


def test_a_service_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "coe-secret")
    code, _, err = coe(*MEASURE, "--url", "http://127.0.0.1:1/v1/", "--key", "MY_KEY")
    assert (code, err) == (1, "coe: http://127.0.0.1:1 does not list its models: Connection error.\n")


def test_feedback_moves_the_profile_unless_the_golden_set_says_no(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []

    async def feedback_of(client: object, url: str) -> list[dict[str, Any]]:
        assert url == "http://127.0.0.1:8000"
        return said

    monkeypatch.setattr(profile_ask, "feedback_of", feedback_of)
    monkeypatch.setenv("COE_API_KEY", "coe-0123456789abcdef")
    assert coe(*MEASURE)[0] == 0
    measured = (folder / "out" / PROFILE).read_text()
    said.append({"id": "req-1", "expert": "bob", "category": "x", "score": 1.0, "at": 1e12})
    said.append({"id": "req-2", "expert": "eve", "category": "x", "score": 1.0, "at": 1e12})
    code, out, err = coe("--feedback", "--out", "out")
    assert (code, err) == (0, "1 judgements are of experts or categories that were not measured\n")
    assert out.startswith("taken: golden score 1.000 as measured, 1.000 with the feedback")
    moved = json.loads((folder / "out" / PROFILE).read_text())
    assert moved["experts"]["bob"]["feedback"] == {"all": {"mean": 1.0, "n": 1.0}}
    assert moved["experts"]["ada"] == json.loads(measured)["experts"]["ada"]


def test_a_refused_update_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        dict(line, prompt_id=f"g{n}", prompt=f"g {n}", gold="ada", split="golden") for n, line in enumerate(QUESTIONS)
    ]
    even = [
        dict(line, prompt_id=f"e{n}", prompt=f"e {n}", gold=("ada", "bob")[n % 2], split="train")
        for n, line in enumerate(QUESTIONS)
    ]
    Path("q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *even]))

    async def feedback_of(client: object, url: str) -> list[dict[str, Any]]:
        return [{"id": "req-1", "expert": "bob", "category": None, "score": 1.0, "at": 1e12}]

    monkeypatch.setattr(profile_ask, "feedback_of", feedback_of)
    monkeypatch.setenv("COE_API_KEY", "coe-0123456789abcdef")
    assert coe(*MEASURE)[0] == 0
    before = (folder / "out" / PROFILE).read_text()
    code, out, _ = coe("--feedback", "--out", "out")
    assert (code, out.split(":")[0]) == (1, "refused")
    assert (folder / "out" / PROFILE).read_text() == before
