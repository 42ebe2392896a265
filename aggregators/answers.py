r"""The short answer in a draft, in one form for all ways to write it, so that drafts can be counted.

What stands up to the last ``</think>`` is the model's own notes and dropped; notes that never end leave no answer.
`extract` takes the first of these that the rest has:

1. a JSON object or array as the whole text: its canonical dump (sorted keys, no spaces, 3.0 as 3). NaN, Infinity and
   numbers that overflow are no JSON, and no answer either;
2. ``\boxed{...}``: its value. Boxes of different values are no answer;
3. the last "answer is ..." or "answer: ...", or "#### ..." in the last line, that a choice or a number follows.
   Different choices ("The answer is A ... the answer is D") and several at once ("A or B", "A and C", "A, B") are no
   answer;
4. the only code fence: what is inside, a JSON value as in 1, else as it is but for runs of spaces: case counts in code;
5. the last statement as in 3, if other text follows, to the end of the sentence; only in the last line, for "the answer
   is complicated" may begin anything;
6. the whole text, if it states nothing and has no fences: its value;
7. nothing, so no vote. A value of more than 12 words or 200 characters is nothing either: an essay has no short answer.
   A character of a script without spaces (Chinese, Japanese, Thai) counts as a word.

A fence or a box that is never closed was cut off: no answer. Statements inside fences do not count (``answer = 5`` is
code). Pairs of quotes, backticks, ``*``, ``$`` and ``\text{}`` around a value are taken off. A value is, again the
first that fits:

* a choice, A to J: ``B``, ``b.``, ``(B)``, ``B)``, ``(B) Paris``, ``B) Paris`` are all ``B``. In a statement (3) so is
  a capital before punctuation, "because", "since" or "as". ``B. Paris`` alone is text, like C. elegans and E. coli;
* a number: ``1,000`` is ``1000``, ``3.0`` is ``3``, ``.50`` is ``0.5``, ``+7`` is ``7``, ``-0`` is ``0``. Commas must
  stand at the thousands, else it is text. Currency, per cent and units stay, behind the number: ``$5`` is ``5 $``,
  ``5%`` is ``5 %``, ``3.0km`` is ``3 km``, and none of them is ``5`` or ``3``;
* code, that is text with one of ``\ ^ | < > = { } [ ]``: kept but for runs of spaces, for there case and a full stop
  mean something;
* other text: spaces collapsed, case folded, a full stop at the end taken off.
"""

import json
import math
import re
from typing import Any

MAX_WORDS, MAX_CHARACTERS = 12, 200

_FENCE = "```"
_LANGUAGE = re.compile(r"[\w+-]*[ \t]*\n")
_STATED = re.compile(
    r"(?:\banswer(?:\*\*)?[ \t]*(?:\bis\b[ \t]*:?|[:=])|####(?=[^\n]{0,200}\Z))(?:\*\*)?\s*", re.IGNORECASE
)
_MOST_STATEMENTS = 64
"""Statements of a text that are looked at, from its end."""
_SENTENCE = re.compile(rf"[^\n]{{0,{2 * MAX_CHARACTERS}}}?(?=(?<!\b[^\W\d_])\.(?:\s|$)|\n|$)")
_CHOICE = re.compile(r"(?:\(([A-J])\)|([A-J])\))(?:\s.*)?|([A-J])\.?", re.IGNORECASE)
_MARK = r"(?:\*\*|[*`$\"'])"
_STATED_CHOICE = re.compile(
    rf"{_MARK}?(?:\(([A-J])\)|([A-J])(?={_MARK}?(?:[ \t]*(?:\n|$)|[),;:]|\.(?!\s*[a-z])|\s+(?:because|since|as)\b)))"
)
# "A or", "A and", "A, B", "A/B", "(A) (B)". Among the letters I needs company: "A, I think" is one choice.
_SEVERAL = re.compile(
    rf"(?:(?:either|both)[ \t]+)?{_MARK}?\(?\b([A-J])\b\)?{_MARK}?[ \t]*"
    r"(?:,?[ \t]*(?:or|and)\b"
    rf"|[,;/&+|]?[ \t]*{_MARK}?\(?\b(?!\1)(?:[A-HJ]\b(?![.'’]\w)|I(?=[)*`,;:./]|[ \t]*(?:\n|$))))"
    rf"|\(?[a-j]\)?[ \t]+(?:or|and)[ \t]+\(?[a-j]\b\)?[ \t]*(?:[.\n]|$)"
)
_SHORT = re.compile(r"[A-J]|-?\d[\d.,:/-]*(?: \S+){0,2}")
_NUMBER = re.compile(r"([+-]?)([$€£¥]?)\s?(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d+))?\s?([%$€£¥]|[^\W\d_]+(?:/[^\W\d_]+)?)?")
_CODE = re.compile(r"[\\^|<>={}\[\]]")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WRAPPED = re.compile(r"""(\*\*|[*`$"'])((?:(?!\1).)+)\1\.?|[“„«](.+)[”“»]\.?""", re.DOTALL)
_BRACE = re.compile(r"(\\boxed\{)|[{}]")
# A character of Han, kana or Thai with the marks that belong to it. Korean has spaces between words.
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46]"
    r"[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u3001-\u303f]*"
)


class _NotFinite(Exception):
    """A JSON number that is none."""


def extract(text: str) -> str | None:
    """The normalised short answer of `text`, None if it has none. Equal answers give equal strings."""
    text = text.rpartition("</think>")[2].strip()
    if text.startswith("<think>"):
        return None
    try:
        if (canonical := _json(text)) is not None:
            return canonical
        return _in_prose(text)
    except _NotFinite:
        return None


def _in_prose(text: str) -> str | None:
    parts = text.split(_FENCE)
    boxes = _boxes(text)
    if len(parts) % 2 == 0 or boxes is None:  # cut off
        return None
    if len(answers := {_value(box) for box in boxes}) > 1:
        return None
    if answers and (answer := answers.pop()) is not None:
        return answer

    prose = "\n".join(parts[::2]).strip()
    stated = list(_STATED.finditer(prose))[-_MOST_STATEMENTS:]
    if any(_SEVERAL.match(prose, found.end()) for found in stated):
        return None
    values = [_stated(prose, found.end()) for found in stated]
    short = [value for value in values if value and _SHORT.fullmatch(value)]
    if len({value for value in short if value.isalpha()}) > 1:
        return None
    if short:
        return short[-1]
    if len(parts) == 3:
        return _fenced(parts[1])
    if stated:
        return values[-1] if "\n" not in prose[stated[-1].end() :] else None
    return _value(text) if len(parts) == 1 else None


def _json(text: str) -> str | None:
    """The canonical form of a JSON object or array, None if `text` is neither. Raises _NotFinite."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value = _plain(json.loads(text, parse_constant=_refuse))
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """Floats that are whole numbers as integers."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):  # 1e999
        raise _NotFinite
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse(constant: str) -> None:
    raise _NotFinite(constant)


def _boxes(text: str) -> list[str] | None:
    """The insides of all boxes, of nested ones the innermost; None if one is not closed. One pass over the text."""
    opened: list[int] = []  # where the inside of a box begins, -1 for another brace
    found: list[tuple[int, str]] = []
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append(brace.end() if brace[1] else -1)
        elif opened and (start := opened.pop()) >= 0 and not (found and found[-1][0] > start):
            found.append((start, text[start : brace.start()]))
    return None if any(start >= 0 for start in opened) else [inside for _, inside in found]


def _fenced(inside: str) -> str | None:
    if language := _LANGUAGE.match(inside):
        inside = inside[language.end() :]
    inside = inside.strip()
    if (canonical := _json(inside)) is not None:
        return canonical
    if not _is_short(inside):
        return None
    number = None if any(character.isalpha() for character in inside) else _number(inside)
    return number or " ".join(inside.split())


def _stated(text: str, start: int) -> str | None:
    """The value that a statement gives whose value begins at `start`."""
    if choice := _STATED_CHOICE.match(text, start):
        return choice[1] or choice[2]
    found = _SENTENCE.match(text, start)
    sentence = found[0].rstrip() if found else ""
    if sentence.count("**") % 2:  # **The answer is Paris**: the first pair of stars stands before the statement
        sentence = sentence.removesuffix("**")
    return _value(sentence)


def _value(text: str) -> str | None:
    text = text.strip()
    if len(text) > 2 * MAX_CHARACTERS:  # before anything that looks at it more than once
        return None
    text = _bare(text)
    if not _is_short(text):
        return None
    if choice := _CHOICE.fullmatch(text):
        return (choice[1] or choice[2] or choice[3]).upper()
    if (number := _number(text)) is not None:
        return number
    text = " ".join(text.split())
    return text if _CODE.search(text) else text.removesuffix(".").casefold() or None


def _is_short(text: str) -> bool:
    return 0 < len(text) <= MAX_CHARACTERS and len(_UNSPACED.sub(" x ", text).split()) <= MAX_WORDS


def _bare(text: str) -> str:
    """Without the pairs around it. Only pairs go: the stars of the cron line ``*/5 * * * *`` are its own."""
    text = _TEXT.sub(r"\1", text).strip()
    while wrapped := _WRAPPED.fullmatch(text):
        text = (wrapped[2] or wrapped[3]).strip()
    return text


def _number(text: str) -> str | None:
    text = text.replace(r"\$", "$").replace(r"\%", "%")  # LaTeX
    match = _NUMBER.fullmatch(text.replace("−", "-").removesuffix("."))
    if match is None or (match[3] is None and match[4] is None):
        return None
    whole = (match[3] or "").replace(",", "").lstrip("0") or "0"
    fraction = (match[4] or "").rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    sign = "-" if match[1] == "-" and number != "0" else ""
    return " ".join(filter(None, (sign + number, match[2], (match[5] or "").casefold())))
