"""The questions of `coe profile`: a JSON object a line, checked to the last field before any expert is asked.

`QuestionsError`   the file cannot be used; the message names the line
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.profile import ALL, GOLDEN
from experts.registry import did_you_mean
from orchestrator.profile.scoring import Method, method

MAX_SHOWN = 60
ALL_OR_NONE = ("category", "split")
"""Fields that every line has if one has them: what a line without would mean nobody could say."""


class QuestionsError(ValueError):
    """The file of questions cannot be used. The message names the file and the line."""


@dataclass(frozen=True, slots=True)
class ProfileQuestion:
    """One question. gold: answers that are right, any of them; empty = nobody knows. category: None if the file has
    none. check: what the method needs beside gold. max_tokens: limit of an answer, None = the expert's own."""

    prompt_id: str
    prompt: str
    method: Method
    gold: tuple[str, ...] = ()
    category: str | None = None
    skills: tuple[str, ...] = ()
    split: str | None = None
    max_tokens: int | None = None
    check: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of what an expert is asked: an answer counts as long as this is the same."""
        return hashlib.sha256(json.dumps([self.prompt, self.max_tokens]).encode()).hexdigest()[:16]

    @property
    def group(self) -> str:
        return self.category or ALL

    @property
    def golden(self) -> bool:
        return self.split == GOLDEN

    def score(self, answer: str) -> float:
        """1.0 if the answer is right by any gold, else 0.0."""
        return float(any(self.method.right(answer, gold, self.check) for gold in self.gold))


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of a file. repeated: lines that say again what another one says, which are not asked twice."""

    items: tuple[ProfileQuestion, ...]
    repeated: int = 0


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    prompt_id: str | int | None = None
    gold: Any = None
    category: str | None = Field(None, min_length=1)
    skills: list[str] = []
    split: str | None = Field(None, min_length=1)
    method: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    check: dict[str, Any] = {}


FIELDS = tuple(_Line.model_fields)


def read(path: Path, *, default: str = "exact", label_free: bool = False, max_tokens: int | None = None) -> Questions:
    """The questions of a .jsonl file, in order.

    default: the method of lines that name none. label_free: gold answers need not be there. max_tokens: of lines that
    name none. Raises QuestionsError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise QuestionsError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise QuestionsError(f"{path} cannot be read: {error.strerror or error}") from None
    found: dict[str, tuple[int, ProfileQuestion]] = {}
    repeated = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = _question(_checked(line), default, label_free, max_tokens)
        except ValueError as error:
            raise QuestionsError(f"{path}, line {number}: {error}") from None
        first, same = found.setdefault(question.prompt_id, (number, question))
        if same != question:
            raise QuestionsError(
                f"{path}, line {number}: prompt_id {question.prompt_id!r} stands in line {first} already with another "
                "prompt, gold or category; give it another one"
            )
        repeated += first != number
        _same_fields(path, number, question, *next(iter(found.values())))
    if not found:
        raise QuestionsError(f"{path} holds no question; write a JSON object with 'prompt' and 'gold' a line")
    return Questions(tuple(question for _, question in found.values()), repeated)


def _checked(line: str) -> _Line:
    try:
        data = pydantic_core.from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"got {_shown(data)}; a JSON object is wanted")
    for name in data:
        if name not in _Line.model_fields:
            raise ValueError(f"unknown field {_shown(name)}{did_you_mean(name, _Line.model_fields)}")
    try:
        return _Line.model_validate({name: value for name, value in data.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"][:1]))
        if first["type"] == "missing":
            raise ValueError(f"no {where!r}, which every line needs") from None
        raise ValueError(
            f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}; got {_shown(first['input'])}"
        ) from None


def _question(line: _Line, default: str, label_free: bool, max_tokens: int | None) -> ProfileQuestion:
    if not line.prompt.strip():
        raise ValueError("prompt: it must not be blank")
    chosen = method(line.method or default)
    gold = _gold(line.gold, chosen)
    if not gold and not label_free:
        raise ValueError("no 'gold', the right answer; where nobody knows it, use --label-free")
    for each in gold:
        if problem := chosen.gold_problem(each, line.check):
            raise ValueError(f"gold {problem} for the method {chosen.name!r}; got {_shown(each)}")
    prompt_id = line.prompt_id if line.prompt_id is not None else hashlib.sha256(line.prompt.encode()).hexdigest()[:16]
    return ProfileQuestion(
        str(prompt_id),
        line.prompt,
        chosen,
        gold,
        line.category,
        tuple(dict.fromkeys(line.skills)),
        line.split,
        line.max_tokens or max_tokens,
        line.check,
    )


def _gold(value: Any, chosen: Method) -> tuple[str, ...]:
    """What is right, as texts. A list means any of them, unless the answer is itself JSON."""
    if value is None:
        return ()
    if chosen.name == "json" and not isinstance(value, str):
        return (json.dumps(value),)
    if isinstance(value, list):
        if not value:
            raise ValueError("gold: the list is empty; name at least one right answer")
        return tuple(_text(each) for each in value)
    return (_text(value),)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"gold: text, a number, or a list of them is wanted; got {_shown(value)}")


def _same_fields(path: Path, number: int, question: ProfileQuestion, first: int, other: ProfileQuestion) -> None:
    for name in ALL_OR_NONE:
        here, there = getattr(question, name), getattr(other, name)
        if (here is None) != (there is None):
            which = "has no" if here is None else "has a"
            raise QuestionsError(
                f"{path}, line {number}: it {which} {name!r}, unlike line {first}; give one to every line or to none"
            )


def check_same(questions: Collection[ProfileQuestion], digests: Mapping[str, str], where: Path) -> None:
    """Are the answers in `where` (prompt_id -> digest) to these questions? Raises QuestionsError."""
    for question in questions:
        if digests.get(question.prompt_id, question.digest) != question.digest:
            raise QuestionsError(
                f"question {question.prompt_id!r} is not the one that {where} has answers to: its prompt or limit of "
                "tokens changed; give it another prompt_id, or use another folder"
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
