"""Labelled files: three formats give the same, and what is wrong is named by row and column."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest

from routers.labelled.data import Labelled, read
from routers.labelled.file import LabelledFileError

Row = Mapping[str, object]

ROWS: list[dict[str, object]] = [
    {
        "prompt_id": "p1",
        "prompt": 'Say "a,b"\nor not',
        "expert": "zeta",
        "score": 0.5,
        "category": "x",
        "split": "train",
    },
    {
        "prompt_id": "p1",
        "prompt": 'Say "a,b"\nor not',
        "expert": "alpha",
        "score": 1,
        "category": "x",
        "split": "train",
    },
    {"prompt_id": "p2", "prompt": "größer?", "expert": "alpha", "score": 0, "category": "y", "split": "test"},
    {"prompt_id": "p2", "prompt": "größer?", "expert": "zeta", "score": 1, "category": "y", "split": "test"},
]


def write_csv(path: Path, rows: Sequence[Row], encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    source = write_jsonl(path.with_suffix(".source.jsonl"), rows)
    with duckdb.connect() as database:
        database.execute(f"copy (select * from read_json_auto('{source}')) to '{path}' (format parquet)")
    return path


def changed(row: int, **cells: object) -> list[dict[str, object]]:
    """ROWS with other cells in the row of this number, counted from 1."""
    return [old | cells if number == row else old for number, old in enumerate(ROWS, 1)]


def message(path: Path, splits: Sequence[str] | None = None) -> str:
    with pytest.raises(LabelledFileError) as caught:
        read(path, splits)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_all_formats_give_the_same_matrix(tmp_path: Path, write: Callable[[Path, Sequence[Row]], Path]) -> None:
    data = read(write(tmp_path / f"a.{write.__name__.removeprefix('write_')}", ROWS))
    assert data.ids == ("p1", "p2")
    assert data.prompts == ('Say "a,b"\nor not', "größer?")
    assert data.experts == ("alpha", "zeta")
    assert data.scores.tolist() == [[1.0, 0.5], [0.0, 1.0]]
    assert data.categories == ("x", "y")
    assert data.splits == ("train", "test")
    assert (data.costs, data.answers, data.gold, data.unread) == (None, None, None, ())
    assert data.means().tolist() == [0.5, 0.75]


def test_a_byte_order_mark_crlf_blank_lines_and_long_cells_are_fine(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", changed(3, prompt="x" * 200_000)[:3], encoding="utf-8-sig")
    assert b"\r\n" in path.read_bytes()
    path.write_bytes(path.read_bytes() + b"\r\n\r\n")
    assert read(path).ids == ("p1", "p2")


def test_what_was_not_measured_is_nan_and_what_is_optional_is_read(tmp_path: Path) -> None:
    rows = [
        row | {"cost": 2.5, "answer": "A" if row["expert"] == "zeta" else "", "gold": "A", "note": "n"}
        if row["expert"] == "zeta"
        else row | {"cost": "", "answer": "", "gold": "A", "note": "n"}
        for row in ROWS[:3]
    ]
    data = read(write_csv(tmp_path / "a.csv", rows))
    assert data.measured.tolist() == [[True, True], [True, False]]
    assert data.means().tolist() == [0.5, 0.5]
    assert data.answers is not None
    assert data.costs is not None
    assert data.answers.tolist() == [[None, "A"], [None, None]]
    np.testing.assert_array_equal(data.costs, [[np.nan, 2.5], [np.nan, np.nan]])
    assert data.gold == ("A", "A")
    assert data.unread == ("note",)


def test_a_split_is_read_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", changed(3, score="rubbish", prompt=""))
    assert read(path, ["train"]).ids == ("p1",)
    assert read(write_csv(tmp_path / "b.csv", ROWS), ["train", "test"]).ids == ("p1", "p2")


QUOTING = "a cell that holds commas, quotes or line breaks stands in quotes, and a quote inside it is written twice"
SCORE = "it must be a number in [0, 1]; leave out the row of an expert that was not measured"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (changed(3, score="good"), f"a.csv, row 3 (line 6), column score: got 'good'; {SCORE}"),
        (changed(3, score="nan"), f"a.csv, row 3 (line 6), column score: got nan; {SCORE}"),
        (changed(3, score=""), f"a.csv, row 3 (line 6), column score: it is empty; {SCORE}"),
        (changed(2, score=1.5), f"a.csv, row 2 (line 4), column score: got 1.5; {SCORE}"),
        (changed(4, expert=""), "a.csv, row 4 (line 7), column expert: it is empty"),
        (changed(4, category=""), "a.csv, row 4 (line 7), column category: prompt_id 'p2' has nothing here and 'y' in "
         "row 3 (line 6); a prompt has one category"),
        (changed(2, prompt="Say"), "a.csv, row 2 (line 4), column prompt: prompt_id 'p1' has 'Say' here and "
         "'Say \"a,b\"\\nor not' in row 1 (line 2); a prompt has one prompt"),
        (changed(2, prompt='Say "a,b"\nor not at all, or so it seems to me'), "a.csv, row 2 (line 4), column prompt: "
         "prompt_id 'p1' has ...',b\"\\nor not at all, or so it seems to m... here and ...',b\"\\nor not' in "
         "row 1 (line 2); a prompt has one prompt"),
        (changed(3, expert="alpha "), "a.csv, row 3 (line 6), column expert: got 'alpha '; take away the space around "
         "the name"),
        (changed(2, expert="zeta"), "a.csv, row 2 (line 4), column expert: prompt_id 'p1' and expert 'zeta' stand in "
         "row 1 (line 2) already; there must be one row for each pair"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named(tmp_path: Path, rows: Sequence[Row], told: str) -> None:
    assert message(write_csv(tmp_path / "a.csv", rows)) == told


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        (
            (1, 1, "", 1),
            "a.csv, row 3 (line 6), column cost: it is empty, but 'alpha' has a cost in row 2 (line 4); "
            "give the costs of an expert in all of its rows or in none",
        ),
        ((1, -1, 1, 1), "a.csv, row 2 (line 4), column cost: got -1; it must be a number that is not negative"),
        ((1, 1, "$3", 1), "a.csv, row 3 (line 6), column cost: got '$3'; it must be a number that is not negative"),
    ],
)
def test_wrong_costs_are_named(tmp_path: Path, costs: Sequence[object], told: str) -> None:
    rows = [row | {"cost": cost} for row, cost in zip(ROWS, costs, strict=True)]
    assert message(write_csv(tmp_path / "a.csv", rows)) == told


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    rows = [{name: cell for name, cell in row.items() if name != "score"} for row in ROWS]
    assert message(write_csv(tmp_path / "a.csv", rows)) == (
        "a.csv has no column 'score'; add it (its columns are 'prompt_id', 'prompt', 'expert', 'category', 'split')"
    )


def test_a_missing_column_is_told_with_what_may_have_been_meant(tmp_path: Path) -> None:
    rows = [{"scores" if name == "score" else name: cell for name, cell in row.items()} for row in ROWS]
    assert message(write_csv(tmp_path / "a.csv", rows)) == (
        "a.csv has no column 'score'; did you mean 'scores'? (its columns are 'prompt_id', 'prompt', 'expert', "
        "'scores', 'category', 'split')"
    )


def test_splits_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    assert message(path, ["tset"]) == (
        "a.csv has no split 'tset'; did you mean 'test'? (its splits: train (2 rows), test (2 rows))"
    )
    assert message(path, []) == "a.csv: no split was named, so no row is left; name one of train, test"
    bare = write_csv(tmp_path / "b.csv", [{k: v for k, v in row.items() if k != "split"} for row in ROWS])
    assert message(bare, ["test"]) == "b.csv has no column 'split', so there is no test; leave --split out"


def test_an_expert_without_a_row_in_the_split_is_told(tmp_path: Path) -> None:
    assert message(write_csv(tmp_path / "a.csv", changed(4, expert="omega")), ["train"]) == (
        "a.csv, row 4 (line 7), column expert: 'omega' has no row in split train; "
        "measure it there or leave it out of the file"
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "a.csv is empty; its first line must name the columns"),
        ("a.csv", b"prompt_id,prompt,expert,score\n", "a.csv has no rows; it needs one for each prompt and expert"),
        ("a.csv", b"prompt_id;prompt;expert\n1;a;e\n", "a.csv: its columns are separated by ';'; save it with commas"),
        ("a.csv", b"prompt,prompt\n", "a.csv has two columns 'prompt': rename one"),
        ("a.csv", b"prompt_id,prompt,expert,score\n1,hi, you,e,1\n", "a.csv, row 1 (line 2): 5 cells where the header "
         "names 4; " + QUOTING),
        ("a.csv", b'prompt_id,prompt,expert,score\n1,"hi"x,e,1\n', "a.csv, row 1 (line 2): not csv (',' expected after "
         "'\"'); " + QUOTING),
        ("a.csv", b'prompt_id,prompt,expert,score\n1,hi,e,1\n2,"hi,e,1\n3,hi,e,1\n', "a.csv, row 2 (line 3): not csv "
         "(unexpected end of data); " + QUOTING),
        ("a.csv", b'prompt_id,"prompt\n', "a.csv, line 1: not csv (unexpected end of data); " + QUOTING),
        ("a.csv", b"\n \n\n", "a.csv has no column 'prompt_id'; add it (its columns are ' ')"),
        ("a.csv", b"prompt_id,prompt\n1,\xff\n", "a.csv, line 2: not UTF-8 text; save the file as UTF-8"),
        ("a.csv", b"prompt_id,prompt\n" + b"1,hi\n" * 9_999 + b"1,\xff\n", "a.csv, line 10001: not UTF-8 text; save "
         "the file as UTF-8"),
        ("a.jsonl", b"", "a.jsonl is empty; it needs the columns prompt_id, prompt, expert, score"),
        ("a.jsonl", b'\n{"a": 1\n', "a.jsonl, line 2: not JSON (Expecting ',' delimiter); each line must be a JSON "
         "object"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: not JSON (too deep or too long); each line must be a JSON "
         "object"),
        ("a.jsonl", b'{"score": 1' + b"0" * 9_999 + b"}", "a.jsonl, line 1: not JSON (too deep or too long); each line "
         "must be a JSON object"),
        ("a.jsonl", b'{"prompt_id": 1, "prompt": "a", "expert": "e", "score": 1' + b"0" * 999 + b"}",
         f"a.jsonl, row 1 (line 1), column score: got 1{'0' * 39}...; {SCORE}"),
        ("a.jsonl", b"[1]\n", "a.jsonl, line 1: got [1]; each line must be a JSON object"),
        ("a.jsonl", b'{"prompt_id": 1, "prompt": "\\ud800", "expert": "e", "score": 1}',
         "a.jsonl, row 1 (line 1), column prompt: got '\\ud800', which has half a character in it"),
        ("a.jsonl", b'{"prompt_id": 1, "prompt": ["a"], "expert": "e", "score": 1}',
         "a.jsonl, row 1 (line 1), column prompt: got ['a']; it must be text"),
        ("a.parquet", b"hello", "a.parquet is no parquet file that can be read: Invalid Input Error: "
         "File 'a.parquet' too small to be a Parquet file"),
        ("a.txt", b"", "a.txt ends in '.txt'; a labelled file ends in '.csv', '.jsonl' or '.parquet'"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message(tmp_path / name) == told


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_that_is_missing_is_told(tmp_path: Path, ending: str) -> None:
    assert message(tmp_path / f"a.{ending}") == f"a.{ending} cannot be read: No such file or directory"


def test_a_folder_is_told(tmp_path: Path) -> None:
    assert message(tmp_path).endswith(" is a folder; name a file that ends in '.csv', '.jsonl' or '.parquet'")


def test_parquet_may_say_it_in_types_of_its_own(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "source.jsonl", ROWS)
    columns = (
        "md5(prompt_id)::uuid as prompt_id, expert::enum('alpha', 'zeta') as expert, score::decimal(5, 3) as score"
    )
    with duckdb.connect() as database:
        database.execute(
            f"copy (select * replace ({columns}) from read_json_auto('{source}')) to '{tmp_path}/a.parquet'"
        )
    data = read(tmp_path / "a.parquet")
    assert data.scores.tolist() == [[1.0, 0.5], [0.0, 1.0]]
    assert [len(name) for name in data.ids] == [36, 36]


def test_truth_values_are_scores(tmp_path: Path) -> None:
    rows = [row | {"score": bool(row["score"] == 1)} for row in ROWS]
    matrix = [[1.0, 0.0], [0.0, 1.0]]
    assert read(write_csv(tmp_path / "a.csv", rows)).scores.tolist() == matrix
    assert read(write_jsonl(tmp_path / "a.jsonl", rows)).scores.tolist() == matrix
    assert read(write_parquet(tmp_path / "a[1]*.parquet", rows)).scores.tolist() == matrix


def many(n: int) -> Labelled:
    return Labelled(
        ids=tuple(f"p{i}" for i in range(n)),
        prompts=tuple(f"text {i % (n - 3)}" for i in range(n)),  # the last three repeat the first three
        experts=("a", "b"),
        scores=np.linspace(0, 1, 2 * n).reshape(n, 2),
        categories=tuple("xyz"[i % (n - 3) % 3] for i in range(n)),
    )


def test_folds_part_the_prompts_evenly_by_category_and_keep_copies_together() -> None:
    data = many(63)
    folds = data.folds(5, seed=1)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(63))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(63))
        assert not {data.prompts[i] for i in train} & {data.prompts[i] for i in test}
        assert data.categories is not None
        for category in "xyz":
            assert 3 <= len({data.prompts[i] for i in test if data.categories[i] == category}) <= 5
    assert [test.tolist() for _, test in data.folds(5, seed=1)] == [test.tolist() for _, test in folds]
    assert [test.tolist() for _, test in data.folds(5, seed=2)] != [test.tolist() for _, test in folds]


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="61 folds of 60 different prompts"):
        many(63).folds(61)


def test_rows_take_a_part_with_all_experts() -> None:
    part = many(10).rows([4, 2])
    assert part.ids == ("p4", "p2")
    assert part.categories == ("y", "z")
    np.testing.assert_array_equal(part.scores, many(10).scores[[4, 2]])
    assert part.experts == ("a", "b")
