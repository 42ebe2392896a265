"""An encoder without a model, for tests and fake modes."""

import itertools
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from routers.encoders.base import MAX_CHARACTERS, Vectors, head


class HashEncoder:
    """The fake: hashed words, word pairs and character trigrams. Needs no model; the same everywhere, always.

    Texts that share words are close, texts that share none are nearly orthogonal, which is all that tests need.
    """

    reads = MAX_CHARACTERS

    def __init__(self, dim: int = 256) -> None:
        self.dim = dim
        self.name = f"hash-{dim}"

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """See `TokenEncoder.tokens`: its words."""
        return [len(text.split()) for text in texts]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode`. A text without any word has a vector of its own."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for feature, weight in _features(head(text).casefold()):
                code = zlib.crc32(feature.encode())
                row[(code >> 1) % self.dim] += weight if code & 1 else -weight
            # Opposite signs can cancel out: the constant keeps every length above zero.
            row[0] += 1e-3
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = re.findall(r"\w+", text)
    for word in words:
        yield word, 1.0
        for i in range(len(word) - 2):
            yield "#" + word[i : i + 3], 0.3
    for pair in itertools.pairwise(words):
        yield " ".join(pair), 0.5
