"""The rows of a labelled file as text columns: csv, jsonl or parquet, told apart by the name's ending."""

import csv
import glob
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experts.registry import one_of

ENDINGS = (".csv", ".jsonl", ".parquet")
_LONGEST_CELL = 2**31 - 1
"""Characters of a csv cell. Python's own limit is 131,072, which a prompt with a document in it passes."""
_LONGEST_SHOWN = 40
_SHOWN_BEFORE = 10
"""Characters before a difference that show where it is."""
_OBJECTS = "each line must be a JSON object"
_QUOTING = "a cell that holds commas, quotes or line breaks stands in quotes, and a quote inside it is written twice"


class LabelledFileError(ValueError):
    """A labelled file cannot be used. The message names the file and, where there is one, row and column."""


@dataclass(frozen=True, slots=True)
class Table:
    """columns: name -> cells, all of one length; None is an empty cell. lines: line of each row, None in parquet."""

    path: Path
    columns: dict[str, list[object]]
    lines: list[int] | None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def error(self, row: int, column: str, what: str) -> LabelledFileError:
        """row: from 0; people count from 1, and the header is no row."""
        return LabelledFileError(f"{self.path}, {self.place(row)}, column {column}: {what}")

    def place(self, row: int) -> str:
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines else "")


def shown(cell: object) -> str:
    """A cell as a message quotes it."""
    text = "nothing" if cell is None else repr(cell)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def shown_apart(one: object, other: object) -> tuple[str, str]:
    """Two cells that differ, as a message quotes them: long texts from shortly before the place where they do."""
    if isinstance(one, str) and isinstance(other, str):
        pairs = enumerate(zip(one, other, strict=False))
        same = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
        if (left_out := same - _SHOWN_BEFORE) > 0 and max(len(one), len(other)) > _LONGEST_SHOWN:
            return f"...{shown(one[left_out:])}", f"...{shown(other[left_out:])}"
    return shown(one), shown(other)


def _cell(value: object) -> object:
    """None for what writers put into a cell that is empty: nothing, an empty text, not-a-number."""
    return None if value == "" or value != value else value


def read_table(path: Path) -> Table:
    """All rows of the file. Raises LabelledFileError."""
    ending = path.suffix.lower()
    if path.is_dir():
        raise LabelledFileError(f"{path} is a folder; name a file that ends in {one_of(ENDINGS)}")
    if ending not in ENDINGS:
        raise LabelledFileError(f"{path} ends in {ending!r}; a labelled file ends in {one_of(ENDINGS)}")
    try:
        if ending == ".parquet":
            return _parquet(path)
        return _csv(path) if ending == ".csv" else _jsonl(path)
    except UnicodeDecodeError as error:
        line = _line_of_no_utf8(path)
        raise LabelledFileError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise LabelledFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _line_of_no_utf8(path: Path) -> int:
    """From 1. What the decoder says of a file is counted from the part of it that it had in hand."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1  # it was written again in the meantime


def _csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
        reader = csv.reader(file, strict=True)
        rows: list[list[str]] = []
        lines: list[int] = []
        line = 1
        try:
            header = next((row for row in reader if row), None)  # blank lines are no rows
            if header is None:
                raise LabelledFileError(f"{path} is empty; its first line must name the columns")
            if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
                raise LabelledFileError(f"{path}: its columns are separated by {other!r}; save it with commas")
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise LabelledFileError(f"{path} has two columns {twice[0]!r}: rename one")
            line = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) != len(header):
                        raise LabelledFileError(
                            f"{path}, row {len(rows) + 1} (line {line}): {len(row)} cells where the header names "
                            f"{len(header)}; {_QUOTING}"
                        )
                    rows.append(row)
                    lines.append(line)
                line = reader.line_num + 1
        except csv.Error as error:
            place = f"row {len(rows) + 1} (line {line})" if line > 1 else "line 1"
            raise LabelledFileError(f"{path}, {place}: not csv ({error}); {_QUOTING}") from error
    columns: dict[str, list[object]] = {name: [row[place] or None for row in rows] for place, name in enumerate(header)}
    return Table(path, columns, lines)


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _jsonl(path: Path) -> Table:
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # ValueError: also a number with thousands of digits
                why = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too long"
                raise LabelledFileError(f"{path}, line {number}: not JSON ({why}); {_OBJECTS}") from error
            if not isinstance(row, dict):
                raise LabelledFileError(f"{path}, line {number}: got {shown(row)}; {_OBJECTS}")
            rows.append(row)
            lines.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return Table(path, columns, lines)


def _parquet(path: Path) -> Table:
    import duckdb

    path.open("rb").close()  # tells what the operating system has against it in its own words
    # Nothing but this one file is read: a name with a wildcard is not a pattern, and no extension is fetched.
    offline: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(config=offline) as database:
            found = database.execute("select * from read_parquet($1)", [glob.escape(str(path))])
            names = [column[0] for column in found.description or ()]
            rows = found.fetchall()
    except duckdb.Error as error:
        why = str(error).partition("\n")[0].strip()
        raise LabelledFileError(f"{path} is no parquet file that can be read: {why}") from error
    columns = {name: [_cell(row[place]) for row in rows] for place, name in enumerate(names)}
    return Table(path, columns, None)
