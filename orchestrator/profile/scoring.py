"""Is an answer right? The named methods of `coe profile`, and each starter domain's own scorer as `domain:NAME`.

`UnknownMethod`   no scoring method has this name

An answer is reduced to its short form first (`aggregators.answers.extract`), as the `vote` aggregator does, so what is
measured here is what is counted there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aggregators.answers import extract
from experts.registry import did_you_mean, one_of

DOMAIN = "domain:"


class UnknownMethod(ValueError):
    """No scoring method has this name. The message says what there is."""


Value = Callable[[str], str | None]

_NUMBER = re.compile(r"[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
_SHORT_NUMBER = re.compile(rf"({_NUMBER.pattern})(?: \S+)?")  # as `extract` writes it, the unit behind it
_LEADING_CHOICE = re.compile(r"\(?([A-J])[).:]\s")


@dataclass(frozen=True, slots=True)
class Method:
    """One way to score. value: the form in which answers are compared and counted, None = no answer. right: (answer,
    gold, check) -> is it right? gold_problem: why a gold answer is of no use, or None. states_gold: equal to gold in
    that form means right, so that votes can be replayed from a file."""

    name: str
    meaning: str
    value: Value
    right: Callable[[str, str, dict[str, Any]], bool]
    gold_problem: Callable[[str, dict[str, Any]], str | None] = field(default=lambda gold, check: None)
    states_gold: bool = False


def method(name: str) -> Method:
    """The method of that name. Raises UnknownMethod."""
    if name in METHODS:
        return METHODS[name]
    from experts.domains import NAMES

    domain = name.removeprefix(DOMAIN)
    if name.startswith(DOMAIN) and domain in NAMES:
        return _domain_method(domain)
    known = [*METHODS, *(DOMAIN + each for each in NAMES)]
    raise UnknownMethod(f"no scoring method {name[:100]!r}{did_you_mean(name, known)}; allowed are {one_of(known)}")


def _domain_method(name: str) -> Method:
    from experts.domains import domain
    from experts.domains.base import Question

    found = domain(name)

    def right(answer: str, gold: str, check: dict[str, Any]) -> bool:
        return found.score(Question("", gold, check=check), answer)

    def problem(gold: str, check: dict[str, Any]) -> str | None:
        try:
            return None if right(gold, gold, check) else f"is not right by the scorer of {name} itself"
        except Exception as error:  # the scorer trusts its own questions
            told = f"; 'check' lacks {error}" if isinstance(error, KeyError) else f": {error}"
            return f"cannot be scored by {DOMAIN}{name}{told}"

    return Method(DOMAIN + name, f"the scorer of the starter pool's domain {name}", extract, right, problem)


def _exact(text: str) -> str | None:
    return extract(text) or _plain(text) or None


def _choice(text: str) -> str | None:
    short = extract(text)
    if short is not None and re.fullmatch("[A-J]", short):
        return short
    leading = _LEADING_CHOICE.match(_after_notes(text))
    return leading[1] if leading else None


def _number(text: str) -> str | None:
    """The number of a short answer without its unit, else the last one of the text."""
    short = extract(text)
    stated = _SHORT_NUMBER.fullmatch(short) if short is not None else None
    whole = stated[1] if stated else next(reversed(_NUMBER.findall(_after_notes(text))), None)
    if whole is None:
        return None
    number = Decimal(whole.replace(",", "").replace("−", "-"))
    return format(number.normalize() if number else Decimal(0), "f")


def _json(text: str) -> str | None:
    short = extract(text)
    return short if short is not None and short.startswith(("{", "[")) else None


def _plain(text: str) -> str:
    return " ".join(_after_notes(text).split()).casefold()


def _after_notes(text: str) -> str:
    return text.rpartition("</think>")[2].strip()


def _equal(value: Value) -> Callable[[str, str, dict[str, Any]], bool]:
    def right(answer: str, gold: str, check: dict[str, Any]) -> bool:
        given = value(answer)
        return given is not None and given == value(gold)

    return right


def _needs(value: Value, wanted: str) -> Callable[[str, dict[str, Any]], str | None]:
    return lambda gold, check: None if value(gold) is not None else f"must be {wanted}"


def _pattern_problem(gold: str, check: dict[str, Any]) -> str | None:
    try:
        re.compile(gold)
    except re.error as error:
        return f"is no regular expression: {error}"
    return None


METHODS: dict[str, Method] = {
    each.name: each
    for each in (
        Method("exact", "the short answer equals gold's", _exact, _equal(_exact), states_gold=True),
        Method(
            "choice",
            "the letter, A to J, equals gold's",
            _choice,
            _equal(_choice),
            _needs(_choice, "a letter from A to J"),
            states_gold=True,
        ),
        Method(
            "number",
            "the number equals gold's; units do not count",
            _number,
            _equal(_number),
            _needs(_number, "a number"),
            states_gold=True,
        ),
        Method(
            "contains",
            "gold stands in the answer; case and runs of spaces do not count",
            extract,
            lambda answer, gold, check: _plain(gold) in _plain(answer),
            lambda gold, check: None if _plain(gold) else "must not be empty",
        ),
        Method(
            "regex",
            "gold, a regular expression, is found in the answer",
            extract,
            lambda answer, gold, check: re.search(gold, _after_notes(answer)) is not None,
            _pattern_problem,
        ),
        Method(
            "json",
            "the JSON object or array equals gold's; order of keys and spaces do not count",
            _json,
            _equal(_json),
            _needs(_json, "a JSON object or array"),
            states_gold=True,
        ),
    )
}
