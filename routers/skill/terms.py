"""Words as skills: what a prompt says literally, beside what it is near to by embedding.

An embedding says what a prompt is about. Its words and signs also say what form the task has (a choice, a formula,
code, a blank), which matters as much for which expert gets it right.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from routers.skill.vocabulary import Floats, Tags

CHARACTERS = 2000
"""Of a prompt that are read."""

MOST = 48
"""Words of a prompt that count, the rarest first."""

LIMIT = 1000
LEAST = 8
"""Words are skills if at least 8 fitted prompts have them; of these the 1,000 most frequent."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, eq=False)
class Terms:
    """words: (W,), lower case; rarity: (W,), the logarithm of how few prompts have the word, plus 1."""

    words: tuple[str, ...]
    rarity: Floats

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"'{word}'" for word in self.words)

    def match(self, prompts: Sequence[str]) -> Tags:
        """The words of each prompt; the squares of a prompt's strengths sum to 1, or to 0 if it has none (TF-IDF)."""
        skill, strength = np.zeros((len(prompts), MOST), np.intp), np.zeros((len(prompts), MOST))
        for i, prompt in enumerate(prompts):
            here = sorted({self._places[word] for word in tokens(prompt) if word in self._places})
            places = np.array(here, np.intp)
            places = places[np.argsort(-self.rarity[places], kind="stable")[:MOST]]
            weights = self.rarity[places]
            skill[i, : len(places)] = places
            strength[i, : len(places)] = weights / max(float(np.linalg.norm(weights)), 1e-12)
        return Tags(skill, strength)


def tokens(prompt: str) -> set[str]:
    """The words and signs of a prompt's head."""
    return set(_TOKEN.findall(prompt[:CHARACTERS].casefold()))


def common(prompts: Sequence[str]) -> Terms:
    """The words that many prompts have."""
    counts = Counter(word for prompt in prompts for word in tokens(prompt))
    words = sorted((word for word, n in counts.items() if n >= LEAST), key=lambda word: (-counts[word], word))[:LIMIT]
    shares = np.array([counts[word] for word in words], np.float64) / max(len(prompts), 1)
    return Terms(tuple(words), 1 - np.log(shares))
