"""`coe router fit` and `coe router eval`: from a user's file to a router and its figures, or why not, in a sentence."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.cli import router as cli_router
from routers import fitted_file
from routers.encoders.hashed import HashEncoder
from routers.evaluation.kept import EVALUATION, kept
from routers.labelled.data import OPTIONAL, REQUIRED, read
from tests.routers.fitted_parts import EXPERTS, labelled, quick_models

__all__ = ["quick_models"]

ENCODER = cli_router._encoder


@pytest.fixture(autouse=True)
def quick(quick_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and an encoder that take no time."""
    monkeypatch.setattr(cli_router, "_encoder", lambda kind, home, reporter: HashEncoder())


def run(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    result = CliRunner().invoke(cli.app, ["router", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def write(path: Path, splits: Sequence[str] | None = ("train", "test"), **options: bool) -> Path:
    """A labelled csv; prompts go to the splits in turn, two by two."""
    data = labelled(240, **options)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["prompt_id", "prompt", "expert", "score", "category", "answer", "note", *(["split"] if splits else [])]
        )
        assert data.categories is not None
        assert data.answers is not None
        for i, (prompt, category) in enumerate(zip(data.prompts, data.categories, strict=True)):
            for j, expert in enumerate(EXPERTS):
                split = [splits[i // 2 % len(splits)]] if splits else []
                writer.writerow([f"p{i}", prompt, expert, data.scores[i, j], category, data.answers[i, j], "n", *split])
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "labels.csv")


@pytest.fixture
def folder(file: Path, tmp_path: Path) -> Path:
    code, _, _ = run("fit", file, "--split", "train", "--out", tmp_path / "router")
    assert code == 0
    return tmp_path / "router"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fit_tells_what_was_chosen_and_why(file: Path, tmp_path: Path) -> None:
    code, out, err = run("fit", file, "--split", "train", "--out", tmp_path / "router")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "fitted on 120 prompts, 3 experts"
    assert lines[1].startswith("5-fold cross-validation: best single ")
    assert lines[2].startswith("default: both together, ")
    assert lines[2].endswith("the best single expert (95 % interval)")
    assert "columns that mean nothing here: note" in err
    assert "120/120 prompts embedded" in err
    assert "12/12 routers fitted" in err


def test_fit_claims_no_gain_where_there_is_none(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", gain=False)
    _, out, _ = run("fit", file, "--split", "train", "--out", tmp_path / "router")
    assert "the best single expert: no gain over it is shown" in out.splitlines()[2]


def test_eval_prints_one_object(folder: Path, file: Path) -> None:
    code, out, _ = run("eval", folder, file, "--split", "test", "--json")
    assert code == 0
    [line] = out.splitlines()
    found = json.loads(line)
    assert {
        "n", "random", "best_single", "two_level", "skill", "default", "category_oracle", "prompt_oracle", "vote",
        "interval",
    } <= set(found)  # fmt: skip
    assert (found["n"], found["how"], found["seen_in_fit"]) == (120, "held-out prompts", 0)
    assert found["vote"]["3"] > found["best_single"]
    assert found["vote"]["5"] is None
    again = run("eval", folder, file, "--split", "test", "--json")[1]
    assert again == out


def test_eval_writes_a_page(folder: Path, file: Path, tmp_path: Path) -> None:
    code, out, err = run("eval", folder, file, "--split", "test", "--html", tmp_path / "report.html")
    assert code == 0
    assert out.startswith("120 prompts, 3 experts, held-out prompts\n")
    assert f"report in {tmp_path / 'report.html'}" in err
    assert "<h1>labels.csv, test</h1>" in (tmp_path / "report.html").read_text()


def test_eval_is_kept_beside_the_router_if_asked_to(folder: Path, file: Path) -> None:
    code, out, err = run("eval", folder, file, "--split", "test", "--json", "--save")
    assert code == 0
    assert f"kept in {folder}" in err
    found = kept(folder)
    assert found is not None
    assert (found["report"], found["prompts"]) == (json.loads(out), "labels.csv, test")
    fitted_file.read(folder)  # which it is no part of
    (folder / EVALUATION).unlink()
    (folder / f"{EVALUATION}.new").mkdir()
    told = failed("eval", folder, file, "--split", "test", "--save")
    assert "cannot be written: Is a directory; leave out --save" in told
    (folder / f"{EVALUATION}.new").rmdir()


def test_a_file_without_splits_is_cross_validated(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", splits=None)
    assert run("fit", file, "--out", tmp_path / "router")[0] == 0
    _, out, err = run("eval", tmp_path / "router", file, "--json")
    found = json.loads(out)
    assert (found["n"], found["how"], found["seen_in_fit"]) == (240, "5-fold cross-validation", 0)
    assert "5/5 folds" in err


def test_a_file_that_the_router_has_not_seen_is_judged_as_it_is(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "other.csv", splits=None)
    file.write_text(file.read_text().replace(" number ", " nummer "))
    assert json.loads(run("eval", folder, file, "--json")[1])["how"] == "held-out prompts"


def test_rows_outside_the_split_change_nothing(file: Path, folder: Path, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(file.read_text())))
    changed = tmp_path / "changed.csv"
    with changed.open("w", newline="") as out:
        csv.writer(out).writerows(
            row if row[7] != "test" else ["p0", f"other text {i}", row[2], "rubbish", "z", "?", "", "test"]
            for i, row in enumerate(rows)
        )
    assert run("fit", changed, "--split", "train", "--out", tmp_path / "again")[0] == 0
    assert files(tmp_path / "again") == files(folder)
    rest = [row for row in rows if row[7] != "test"]
    with changed.open("w", newline="") as out:
        csv.writer(out).writerows(rest)
    assert run("fit", changed, "--split", "train", "--out", tmp_path / "again")[0] == 0
    assert files(tmp_path / "again") == files(folder)
    rest[1][3] = str(1 - float(rest[1][3]))
    with changed.open("w", newline="") as out:
        csv.writer(out).writerows(rest)
    assert run("fit", changed, "--split", "train", "--out", tmp_path / "again")[0] == 0
    assert files(tmp_path / "again") != files(folder)


def failed(*words: object) -> str:
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.count("coe: ") == 1
    return err[err.index("coe: ") :].strip()


def test_what_a_user_can_mend_is_told_in_a_sentence(file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    assert failed("fit", file, "--out", out) == (
        f"coe: {file} has splits: test, train; name those that are meant, as in --split train"
    )
    assert failed("eval", folder, file) == (
        f"coe: {file} has splits: test, train; name those that are meant, as in --split test"
    )
    assert failed("fit", file, "--split", "tran", "--out", out) == (
        f"coe: {file} has no split 'tran'; did you mean 'train'? (its splits: train (360 rows), test (360 rows))"
    )
    assert failed("fit", tmp_path / "no.csv", "--out", out) == (
        f"coe: {tmp_path / 'no.csv'} cannot be read: No such file or directory"
    )
    assert failed("fit", file, "--split", "train", "--out", file) == (
        f"coe: {file} cannot be written: Not a directory; name another folder"
    )
    assert failed("fit", file, "--split", "train", "--out", tmp_path) == (
        f"coe: {tmp_path} holds something that is no fitted router; name a new or an empty folder"
    )
    assert failed("eval", out, file, "--split", "test") == (
        f"coe: there is no fitted router: {out / 'router.json'} is missing; fit it first"
    )
    assert failed("eval", file, file, "--split", "test") == (
        f"coe: {file} is a file; name the folder that `coe router fit` made"
    )
    for pair in ("cook", "cook,", "cook,cook", "cook,poet,idle"):
        assert failed("eval", folder, file, "--split", "test", "--pair", pair) == (
            f"coe: --pair must be two experts with a comma, the strong one first; got {pair!r}"
        )
    assert failed("eval", folder, file, "--split", "test", "--pair", "cook,poe") == (
        "coe: --pair: no expert 'poe'; did you mean 'poet'?; there are: cook, idle, poet"
    )
    assert failed("eval", folder, file, "--split", "test", "--html", tmp_path) == (
        f"coe: {tmp_path} is a folder; --html must name a file"
    )
    assert failed("eval", folder, file, "--split", "test", "--html", out / "a.html") == (
        f"coe: there is no folder {out} for the report; make it, or name another file by --html"
    )
    file.write_text(file.read_text().replace(",1.0,", ",11,", 1))
    assert ", column score: got 11; it must be a number in [0, 1]" in failed(
        "fit", file, "--split", "train,test", "--out", out
    )
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(file: Path, tmp_path: Path) -> None:
    for out in (file / "router", tmp_path / ("n" * 300)):
        told = failed("fit", tmp_path / "no.csv", "--out", out)
        assert told.startswith(f"coe: {out} cannot be written: ")
        assert told.endswith("; name another folder")


def test_a_home_that_cannot_be_made_is_told(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_router, "_encoder", ENCODER)
    words = ("--split", "train", "--out", tmp_path / "router", "--encoder", "static", "--home", file / "home")
    assert failed("fit", file, *words) == (f"coe: {file / 'home'} cannot be made: Not a directory; name another --home")


def test_an_expert_that_was_hardly_measured_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", None)
    lines = file.read_text().splitlines(True)
    file.write_text("".join(line for line in lines if ",idle," not in line or line.startswith("p7,")))
    assert failed("fit", file, "--out", tmp_path / "router") == (
        "coe: idle has a score on 1 of 240 prompts, too few for cross-validation: measure it on 20 at least, or leave "
        "its rows out"
    )


def test_a_seed_that_no_generator_takes_is_refused(file: Path, tmp_path: Path) -> None:
    assert run("fit", file, "--split", "train", "--out", tmp_path / "router", "--seed", 2**32)[0] == 2


@pytest.mark.parametrize("splits", [None, ("train", "test")])
def test_experts_that_only_one_side_knows_are_told(folder: Path, tmp_path: Path, splits: Sequence[str] | None) -> None:
    """Prompts that the router was fitted on, which would be cross-validated without it, are no exception."""
    more = write(tmp_path / "more.csv", splits)
    words: list[object] = [] if splits is None else ["--split", "test"]
    more.write_text(more.read_text().replace(",idle,", ",busy,"))
    assert failed("eval", folder, more, *words) == (
        "coe: the router does not know busy, only cook, idle, poet: leave out the rows of others, or fit a router with "
        "them"
    )
    more.write_text("".join(line for line in more.read_text().splitlines(True) if ",busy," not in line))
    assert failed("eval", folder, more, *words) == (
        "coe: the prompts have no score of idle, whom the router may choose: measure them too, or fit a router without "
        "them"
    )


def test_too_few_prompts_for_cross_validation_are_told(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "few.csv", None)
    lines = file.read_text().splitlines(True)
    file.write_text("".join(lines[: 1 + 24 * len(EXPERTS)]))
    assert failed("eval", folder, file) == (
        "coe: the router was fitted on some of these prompts, and 24 different ones are too few for cross-validation: "
        "it takes 25, better hundreds; or evaluate on prompts that are new to the router"
    )
    file.write_text("".join(lines[: 1 + 25 * len(EXPERTS)]))
    assert json.loads(run("eval", folder, file, "--json")[1])["n"] == 25


def test_a_router_may_be_replaced(file: Path, folder: Path) -> None:
    before = files(folder)
    assert run("fit", file, "--split", "train,test", "--out", folder)[0] == 0
    assert files(folder) != before


def test_the_docs_name_all_columns_and_options_and_their_example_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/routing.md").read_text()
    example = tmp_path / "labels.csv"
    example.write_text(page.split("```csv\n")[1].split("```")[0])
    assert read(example, ["train"]).experts == ("smol-general", "smol-math")
    assert read(example).categories == ("math", "writing")
    told = page.split("| column | needed | means |\n|---|---|---|\n")[1].split("\n\n")[0]
    assert [line.split("`")[1] for line in told.splitlines()] == [*REQUIRED, *OPTIONAL]
    router = get_command(cli.app).commands["router"]  # type: ignore[attr-defined]  # a click group
    for command in router.commands.values():
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option in page, option
