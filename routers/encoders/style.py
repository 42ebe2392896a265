"""How a text is written, whatever it is about: its signs, its length, the options of a choice.

An embedding says what a prompt is about. Exams, code, word lists and riddles differ in how they are written as well,
and that shows where prompts come from. Case and white space do not count, which people type as they like.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routers.encoders.base import head

Floats = NDArray[np.float32]

CHARACTERS = 4096
"""Of a text that are read."""

_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_SIGNS = ("0123456789", " ", ".", ",", ";:", "?!", "'\"`", "()", "[]{}", "+-*/=<>^%", "_", "$\\|&~", "#@")
_KINDS = len(_LETTERS) + len(_SIGNS) + 1
_KIND = np.zeros(256, np.uint8)
"""Of each byte: letters, then signs; 0 is anything else, such as a part of a letter beyond ASCII."""
for _kind, _characters in enumerate((*_LETTERS, *_SIGNS), start=1):
    _KIND[list(_characters.encode())] = _kind
_FIRST_SIGN = len(_LETTERS) + 1
_SPACE = _FIRST_SIGN + _SIGNS.index(" ")

_OPTION = re.compile(r" \(?[a-j][.):](?= )")

STYLE = _KINDS + len(_SIGNS) + 3
"""Values of `style`."""


def style(text: str) -> Floats:
    """(STYLE,): the root of each kind's share of the text, logs of the counts of signs, the log of the length, the mean
    length of a word and the log of the number of options."""
    plain = " " + " ".join(head(text[:CHARACTERS]).lower().split())
    kinds = _KIND[np.frombuffer(plain.encode(), np.uint8)]
    counts = np.bincount(kinds, minlength=_KINDS)
    letters = counts[1:_FIRST_SIGN].sum()
    values = np.empty(STYLE, np.float32)
    values[:_KINDS] = np.sqrt(counts / len(kinds))
    values[_KINDS:-3] = np.log1p(counts[_FIRST_SIGN:])
    values[-3:] = np.log(len(kinds)), letters / counts[_SPACE], np.log1p(len(_OPTION.findall(plain)))
    return values


def styles(texts: Sequence[str]) -> Floats:
    """`style` of each text: (n, STYLE)."""
    return np.stack([style(text) for text in texts]) if texts else np.zeros((0, STYLE), np.float32)
