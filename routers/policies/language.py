"""Which language a prompt is in: deterministic, without a model, and silent where it is not sure."""

import re
from collections import Counter
from collections.abc import Iterable

from routers.policies.language_words import LETTERS, SCRIPTS, WORDS

MAX_CHARACTERS = 4096
"""Of a prompt that are looked at; a language shows much earlier."""

SCRIPT_SHARE = 0.3
"""Share of a text's letters in a script of one language that settles it: names and code may be in Latin letters."""
LEAST_EVIDENCE = 1.0
"""Function words or letters, each counted by the part of its languages that the text may be in."""
LEAST_DENSITY = 0.1
"""The same for each word of the text: function words are a third and more of a natural one, and rare in code."""
LEAD = 1.5
"""A language is ruled out if another one has so many times its evidence."""
MOST = 4
"""Languages that a text may be in; if more are as likely, nothing can be told."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def _weights(lists: Iterable[tuple[str, Iterable[str]]]) -> dict[str, dict[str, float]]:
    """item -> language -> its part: 1 / the number of languages that have the item."""
    languages: dict[str, set[str]] = {}
    for language, items in lists:
        for item in items:
            languages.setdefault(item, set()).add(language)
    return {item: dict.fromkeys(sorted(those), 1 / len(those)) for item, those in languages.items()}


_OF_WORD = _weights((language, words.split()) for language, words in WORDS.items())
_OF_LETTER = _weights(LETTERS.items())
_NOTHING: dict[str, float] = {}
_ASCII_LETTERS = any(letter.isascii() for letter in _OF_LETTER)
_OF_SCRIPT = [(low, high, language) for language, ranges in SCRIPTS.items() for low, high in ranges]


def detect(text: str) -> tuple[str, ...]:
    """ISO 639-1 codes of the languages that the text may be in, the likeliest first.

    Usually it is one; for near relatives such as Danish and Norwegian it may be both. Empty if it cannot be told: the
    text is too short, mixed, code or formulas.

    Code in back quotes and addresses do not count.
    """
    plain = _CODE.sub(" ", text[:MAX_CHARACTERS]).casefold()
    return _by_script(plain) or _by_words(plain)


def _by_script(text: str) -> tuple[str, ...]:
    if text.isascii():  # no script of one language is
        return ()
    letters = [ord(character) for character in text if character.isalpha()]
    found = Counter(script for code in letters if code > 0x36F and (script := _script(code)))  # beyond Latin
    if not found or found.total() < SCRIPT_SHARE * len(letters):
        return ()
    if found["ja"] and found["ja"] + found["zh"] > found.total() / 2:
        return ("ja",)
    return (found.most_common(1)[0][0],)


def _script(code: int) -> str | None:
    return next((language for low, high, language in _OF_SCRIPT if low <= code <= high), None)


def _by_words(text: str) -> tuple[str, ...]:
    words = _WORD.findall(text.replace("’", "'"))
    of = _OF_WORD.get if text.isascii() and not _ASCII_LETTERS else _parts
    seen = [parts for word in words if (parts := of(word))]
    scores: dict[str, float] = {}
    for parts in seen:
        for language, part in parts.items():
            scores[language] = scores.get(language, 0.0) + part
    ranked = sorted(scores.items(), key=lambda own: own[1], reverse=True)
    likely = [language for language, score in ranked if score * LEAD > ranked[0][1]]
    evidence = ranked[0][1] if len(likely) == 1 else sum(parts.get(own, 0.0) for parts in seen for own in likely)
    sure = evidence >= max(LEAST_EVIDENCE, LEAST_DENSITY * len(words))
    return tuple(likely) if sure and len(likely) <= MOST else ()


def _parts(word: str) -> dict[str, float]:
    """Language -> how much the word speaks for it, at most 1."""
    known = _OF_WORD.get(word, _NOTHING)
    if word.isascii() and not _ASCII_LETTERS:
        return known
    parts = dict(known)
    for letter in _OF_LETTER.keys() & set(word):
        for language, part in _OF_LETTER[letter].items():
            parts[language] = max(parts.get(language, 0.0), part)
    return parts
