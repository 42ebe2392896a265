"""Labelled prompts: how well each expert answered each of them. What routers are fitted on and judged with.

The file is long form, a row for each prompt and expert; docs/routing.md describes its columns.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from experts.registry import did_you_mean
from routers.labelled.file import LabelledFileError, Table, read_table, shown, shown_apart

REQUIRED = ("prompt_id", "prompt", "expert", "score")
OPTIONAL = ("category", "cost", "answer", "gold", "split")
_OF_PROMPT = ("prompt", "category", "gold", "split")
"""Columns that say something about the prompt, so the same in all of its rows."""

Indices = NDArray[np.intp]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """n prompts, E experts. A prompt's place in one field is its place in all of them.

    ids, prompts: (n,), in the order of the file.
    experts: (E,), sorted.
    scores: (n, E) in [0, 1]; nan where the expert was not measured on the prompt.
    categories: (n,), None where the file has none.
    costs: (n, E) in the file's unit; an expert's column is known or nan as a whole. None where nothing is known.
    answers: (n, E) of str or None, what the expert answered; None where the file has no answers.
    gold: (n,), the right answers; None where the file has none.
    splits: (n,), None where the file has none.
    unread: columns of the file that mean nothing here.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    experts: tuple[str, ...]
    scores: NDArray[np.float64]
    categories: tuple[str, ...] | None = None
    costs: NDArray[np.float64] | None = None
    answers: NDArray[np.object_] | None = None
    gold: tuple[str | None, ...] | None = None
    splits: tuple[str, ...] | None = None
    unread: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n, E): was the expert measured on the prompt?"""
        return ~np.isnan(self.scores)

    def means(self) -> NDArray[np.float64]:
        """(E,), the mean score of each expert over the prompts on which it was measured; nan if there is none."""
        measured = self.measured
        counts = measured.sum(axis=0)
        sums = np.where(measured, self.scores, 0.0).sum(axis=0)
        means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return means

    def rows(self, indices: Sequence[int] | Indices) -> "Labelled":
        """The prompts at `indices`, in this order, with all experts."""
        at = np.asarray(indices, np.intp)
        return replace(
            self,
            ids=_take(self.ids, at),
            prompts=_take(self.prompts, at),
            scores=self.scores[at],
            categories=None if self.categories is None else _take(self.categories, at),
            costs=None if self.costs is None else self.costs[at],
            answers=None if self.answers is None else self.answers[at],
            gold=None if self.gold is None else _take(self.gold, at),
            splits=None if self.splits is None else _take(self.splits, at),
        )

    def folds(self, k: int, seed: int = 0) -> list[tuple[Indices, Indices]]:
        """k times (train, test), sorted; every prompt is in one test part.

        Each category is spread evenly. Prompts of one text stay together, for a copy in `train` would tell the answer.
        The fold of a prompt depends on its text, category, k and seed, and on the others of its category.
        Raises ValueError if there are fewer than k different texts, or k is less than 2.
        """
        first: dict[str, int] = {}
        group = np.array([first.setdefault(prompt, len(first)) for prompt in self.prompts], np.intp)
        if not 2 <= k <= len(first):
            raise ValueError(
                f"{k} folds of {len(first)} different prompts: there must be 2 folds at least, and a prompt for each"
            )
        by_category: dict[str, list[str]] = {}
        seen: set[str] = set()
        for prompt, category in zip(self.prompts, self.categories or [""] * len(self), strict=True):
            if prompt not in seen:
                seen.add(prompt)
                by_category.setdefault(category, []).append(prompt)
        fold_of = np.zeros(len(first), np.intp)
        place = 0
        for category in sorted(by_category):
            for prompt in sorted(by_category[category], key=lambda prompt: _shuffled(prompt, seed)):
                fold_of[first[prompt]] = place % k
                place += 1
        folds = fold_of[group]
        return [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(k)]


def _shuffled(prompt: str, seed: int) -> bytes:
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), salt=seed.to_bytes(8, "little")).digest()


def _take(values: tuple[_T, ...], at: Indices) -> tuple[_T, ...]:
    return tuple(values[i] for i in at)


def read(path: Path, splits: Sequence[str] | None = None) -> Labelled:
    """The labelled prompts of a csv, jsonl or parquet file.

    splits: only rows whose column `split` has one of these; None takes all rows. Other rows are not looked at but for
    the names of their experts: they may be wrong in any way and change nothing.
    Raises LabelledFileError.
    """
    table = read_table(path)
    _check_columns(table)
    keep = list(range(len(table))) if splits is None else _in_splits(table, splits)
    return _Reading(table, keep).labelled()


def _check_columns(table: Table) -> None:
    if missing := [name for name in REQUIRED if name not in table.columns]:
        if not table.columns:
            raise LabelledFileError(f"{table.path} is empty; it needs the columns {', '.join(REQUIRED)}")
        others = [name for name in table.columns if name not in REQUIRED + OPTIONAL]
        raise LabelledFileError(
            f"{table.path} has no column {missing[0]!r}{did_you_mean(missing[0], others) or '; add it'} "
            f"(its columns are {', '.join(map(repr, table.columns))})"
        )
    if not len(table):
        raise LabelledFileError(f"{table.path} has no rows; it needs one for each prompt and expert")


def _in_splits(table: Table, splits: Sequence[str]) -> list[int]:
    """The rows of these splits."""
    if "split" not in table.columns:
        raise LabelledFileError(
            f"{table.path} has no column 'split', so there is no {', '.join(splits) or 'split'}; leave --split out"
        )
    own = [None if cell is None else str(cell) for cell in table.columns["split"]]
    sizes = Counter(own)
    known = [name for name in sizes if name is not None]
    for split in splits:
        if split not in known:
            there = ", ".join(f"{name} ({sizes[name]} rows)" for name in known) or "none"
            raise LabelledFileError(
                f"{table.path} has no split {split!r}{did_you_mean(split, known)} (its splits: {there})"
            )
    keep = [row for row, split in enumerate(own) if split in splits]
    if not keep:
        raise LabelledFileError(f"{table.path}: no split was named, so no row is left; name one of {', '.join(known)}")
    inside = {table.columns["expert"][row] for row in keep}
    for row, expert in enumerate(table.columns["expert"]):
        if expert is not None and expert not in inside:
            raise LabelledFileError(
                f"{table.path}, {table.place(row)}, column expert: {shown(expert)} has no row in split "
                f"{','.join(splits)}; measure it there or leave it out of the file"
            )
    return keep


class _Reading:
    """Turns the kept rows into a matrix, checking each cell."""

    def __init__(self, table: Table, keep: Sequence[int]) -> None:
        self._table, self._keep = table, keep

    def labelled(self) -> Labelled:
        table, keep = self._table, self._keep
        ids, first, prompt_of = self._prompts()
        names = [self._expert(row) for row in keep]
        experts = tuple(sorted(set(names)))
        column = {expert: place for place, expert in enumerate(experts)}
        expert_of = [column[name] for name in names]
        self._no_twins(prompt_of, expert_of)
        shape = (len(ids), len(experts))
        scores = np.full(shape, np.nan)
        scores[prompt_of, expert_of] = [self._score(row) for row in keep]
        return Labelled(
            ids=ids,
            prompts=tuple(self._text(row, "prompt") for row in first),
            experts=experts,
            scores=scores,
            categories=self._labels(first, "category"),
            costs=self._costs(shape, prompt_of, expert_of, names),
            answers=self._answers(shape, prompt_of, expert_of),
            gold=self._gold(first),
            splits=self._labels(first, "split"),
            unread=tuple(name for name in table.columns if name not in REQUIRED + OPTIONAL),
        )

    def _cell(self, row: int, column: str) -> Any:
        return self._table.columns[column][row]

    def _known(self, column: str) -> bool:
        """Is there such a column, with something in it?"""
        cells = self._table.columns.get(column)
        return cells is not None and any(cells[row] is not None for row in self._keep)

    def _text(self, row: int, column: str) -> str:
        cell = self._cell(row, column)
        if cell is None:
            raise self._table.error(row, column, "it is empty")
        text = str(cell)
        if not isinstance(cell, str | int | float | UUID) or not text.strip():
            raise self._table.error(row, column, f"got {shown(cell)}; it must be text")
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can write half of a pair of surrogates
            raise self._table.error(row, column, f"got {shown(cell)}, which has half a character in it") from None
        return text

    def _expert(self, row: int) -> str:
        name = self._text(row, "expert")
        if name != name.strip():  # in a table it looks like another row's name, and is another expert
            raise self._table.error(row, "expert", f"got {shown(name)}; take away the space around the name")
        return name

    def _prompts(self) -> tuple[tuple[str, ...], list[int], list[int]]:
        """(ids, first row of each, place of each kept row's prompt). What the rows say of a prompt must not differ."""
        place: dict[str, int] = {}
        first: list[int] = []
        of_row: list[int] = []
        columns = [column for column in _OF_PROMPT if self._known(column)]
        for row in self._keep:
            name = self._text(row, "prompt_id")
            at = place.setdefault(name, len(place))
            of_row.append(at)
            if at == len(first):
                first.append(row)
                continue
            for column in columns:
                got, before = self._cell(row, column), self._cell(first[at], column)
                if got != before:
                    here, there = shown_apart(got, before)
                    raise self._table.error(
                        row,
                        column,
                        f"prompt_id {name!r} has {here} here and {there} in {self._table.place(first[at])}; "
                        f"a prompt has one {column}",
                    )
        return tuple(place), first, of_row

    def _no_twins(self, prompt_of: Sequence[int], expert_of: Sequence[int]) -> None:
        first: dict[tuple[int, int], int] = {}
        for row, pair in zip(self._keep, zip(prompt_of, expert_of, strict=True), strict=True):
            if pair in first:
                raise self._table.error(
                    row,
                    "expert",
                    f"prompt_id {self._text(row, 'prompt_id')!r} and expert {self._text(row, 'expert')!r} stand in "
                    f"{self._table.place(first[pair])} already; there must be one row for each pair",
                )
            first[pair] = row

    def _number(self, row: int, column: str, what: str) -> float:
        cell = self._cell(row, column)
        if cell is None:
            raise self._table.error(row, column, f"it is empty; it must be {what}")
        if isinstance(cell, str) and cell.strip().lower() in ("true", "false"):  # as csv writes a truth value
            return float(cell.strip().lower() == "true")
        try:
            return float(cell)
        except (TypeError, ValueError, OverflowError):
            raise self._table.error(row, column, f"got {shown(cell)}; it must be {what}") from None

    def _score(self, row: int) -> float:
        what = "a number in [0, 1]; leave out the row of an expert that was not measured"
        score = self._number(row, "score", what)
        if not 0 <= score <= 1:
            raise self._table.error(row, "score", f"got {score:g}; it must be {what}")
        return score

    def _labels(self, first: Sequence[int], column: str) -> tuple[str, ...] | None:
        if not self._known(column):
            return None
        return tuple(self._text(row, column) for row in first)

    def _gold(self, first: Sequence[int]) -> tuple[str | None, ...] | None:
        if not self._known("gold"):
            return None
        return tuple(None if self._cell(row, "gold") is None else self._text(row, "gold") for row in first)

    def _answers(
        self, shape: tuple[int, int], prompt_of: Sequence[int], expert_of: Sequence[int]
    ) -> NDArray[np.object_] | None:
        if not self._known("answer"):
            return None
        answers = np.full(shape, None, object)
        for row, prompt, expert in zip(self._keep, prompt_of, expert_of, strict=True):
            if self._cell(row, "answer") is not None:
                answers[prompt, expert] = self._text(row, "answer")
        return answers

    def _costs(
        self, shape: tuple[int, int], prompt_of: Sequence[int], expert_of: Sequence[int], names: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """An expert's costs are known or not, as a whole: the means of different prompts cannot be compared."""
        if not self._known("cost"):
            return None
        costs = np.full(shape, np.nan)
        with_cost: dict[str, int] = {}
        without: dict[str, int] = {}
        for row, prompt, expert, name in zip(self._keep, prompt_of, expert_of, names, strict=True):
            cell = self._cell(row, "cost")
            (without if cell is None else with_cost).setdefault(name, row)
            if name in with_cost and name in without:
                raise self._table.error(
                    without[name],
                    "cost",
                    f"it is empty, but {name!r} has a cost in {self._table.place(with_cost[name])}; give the costs of "
                    "an expert in all of its rows or in none",
                )
            if cell is None:
                continue
            cost = self._number(row, "cost", "a number that is not negative")
            if not 0 <= cost < math.inf:
                raise self._table.error(row, "cost", f"got {cost:g}; it must be a number that is not negative")
            costs[prompt, expert] = cost
        return costs
