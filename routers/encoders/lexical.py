"""What a prompt looks like: hashed words and word pairs, and its form (length, digits, options, code).

A sentence embedding says what a prompt is about. How hard it is for an expert shows in its form as well: whether there
are options, how long they are, whether it wants a number, code or a name.
"""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BUCKETS = 1 << 14
CHARACTERS = 4096
"""Of a prompt that are read; what comes behind adds little and costs time."""

_WORD = re.compile(r"\w+|[^\w\s]")
_OPTION = re.compile(r"^\s*\(?[A-J][.):]\s*(.*)$", re.MULTILINE)
_FORM = (
    re.compile(r"\d"),
    re.compile(r"[A-Z]"),
    re.compile(r"[^\x00-\x7f]"),
    re.compile(r"[.,;:]"),
    re.compile(r"[-+*/=<>^$\\]"),
    re.compile(r"[(){}\[\]]"),
    re.compile(r"\?"),
    re.compile(r"\n"),
    re.compile(r"\b\d[\d.,]*\b"),
    re.compile(r"_{2,}"),
    re.compile(r"\b(?:not|except|false|incorrect|least)\b", re.IGNORECASE),
    re.compile(r"\b(?:def|return|import|assert|function|class)\b"),
    re.compile(r"\b(?:who|whom|whose|where|when)\b", re.IGNORECASE),
    re.compile(r"\b(?:why|how|explain|because)\b", re.IGNORECASE),
)
FORM = 2 * len(_FORM) + 7
"""Values of `form`."""


def buckets(text: str) -> tuple[NDArray[np.intp], Floats]:
    """The hashed words and pairs of a text: distinct bucket numbers below BUCKETS and 1 + log(count) of each."""
    words = _WORD.findall(text[:CHARACTERS].casefold())
    hashed = [zlib.crc32(word.encode("utf-8", "replace")) for word in words]
    codes = np.array(hashed, np.int64)
    # A pair's code mixes those of its words, so that no text is hashed twice.
    pairs = (codes[:-1] * 1_000_003 + codes[1:] * 31 + 7) >> 5
    found, counts = np.unique(np.concatenate([codes, pairs]) % BUCKETS, return_counts=True)
    return found.astype(np.intp), (1 + np.log(counts)).astype(np.float32)


def form(text: str) -> Floats:
    """(FORM,): lengths, counts (log and share of the length) of what `_FORM` names, and the options of a choice."""
    text = text[:CHARACTERS]
    length = max(len(text), 1)
    words = text.split()
    counts = np.array([len(pattern.findall(text)) for pattern in _FORM], np.float32)
    options = _OPTION.findall(text)
    sizes = [len(option) for option in options] or [0]
    digits = sum(any(sign.isdigit() for sign in option) for option in options)
    others = [
        np.log1p(length),
        np.log1p(len(words)),
        len(text) / max(len(words), 1),
        len(options),
        np.log1p(np.mean(sizes)),
        np.log1p(np.ptp(sizes)),
        digits / max(len(options), 1),
    ]
    values: Floats = np.concatenate([np.log1p(counts), counts / length, np.array(others, np.float32)])
    return values


def forms(texts: Sequence[str]) -> Floats:
    """`form` of each text: (n, FORM)."""
    return np.stack([form(text) for text in texts]) if texts else np.zeros((0, FORM), np.float32)
