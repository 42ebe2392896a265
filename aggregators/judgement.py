"""What a judge said, read without trust: scores from its JSON, a letter from its comparison."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aggregators.answers import extract
from aggregators.rubric import LEAST, MOST, Rubric

_DECODER = json.JSONDecoder()
_MOST_OBJECTS = 64
"""Places of a reply where an object may begin that are looked at."""
_NUMBER = re.compile(r"\s*(\d{1,2}(?:\.\d{1,6})?)\s*(?:/\s*10)?\s*")


Scores = Mapping[str, Mapping[str, float]]
"""Draft name -> dimension -> its score, from 1 to 10."""


def scores(reply: str, names: Sequence[str], rubric: Rubric, drafts: Sequence[str]) -> Scores | None:
    """None if the reply does not score every draft in every dimension.

    The last object that does counts. One that stands in a draft, word by word, is a quotation and does not.
    """
    found = None
    for text, value in _objects(reply):
        if not any(text in draft for draft in drafts):
            found = _read(value, names, rubric) or found
    return found


def preference(reply: str) -> str | None:
    """A or B, None for anything else."""
    answer = extract(reply)
    return answer if answer in ("A", "B") else None


def _objects(reply: str) -> Iterator[tuple[str, Any]]:
    """The JSON objects in a text, with their own texts; what is inside an object is not looked at again."""
    start = 0
    for _ in range(_MOST_OBJECTS):
        start = reply.find("{", start)
        if start < 0:
            return
        try:
            value, end = _DECODER.raw_decode(reply, start)
        except (ValueError, RecursionError):
            start += 1
        else:
            yield reply[start:end], value
            start = end


def _read(value: Mapping[str, Any], names: Sequence[str], rubric: Rubric) -> Scores | None:
    by_name = {_key(key).removeprefix("draft").strip(): given for key, given in value.items()}
    found = {}
    for name in names:
        given = by_name.get(name)
        if not isinstance(given, dict):
            return None
        by_dimension = {_key(key): number for key, number in given.items()}
        of = {dimension.name: _number(by_dimension.get(_key(dimension.name))) for dimension in rubric.dimensions}
        known = {dimension: number for dimension, number in of.items() if number is not None}
        if len(known) < len(of):
            return None
        found[name] = known
    return found


def _key(text: str) -> str:
    return text.strip().casefold()


def _number(value: object) -> float | None:
    """A score, also as "7" or "7/10"; None for what is none."""
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        value = float(match[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if LEAST <= value <= MOST else None
