"""What an encoder does: texts in, unit vectors out.

Encoders are deterministic and thread-safe. Only the head of a long text counts: MiniLM reads 256 tokens anyway.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = NDArray[np.float32]

Progress = Callable[[str, int, int], None]
"""Called with (what, done, of)."""

MAX_CHARACTERS = 8192
"""Characters of a text that are read. Far more than 256 tokens hold, and a megabyte prompt costs no tokenizer time."""


_TYPEWRITER = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


class Encoder(Protocol):
    """Texts to vectors. Encoders of equal `name` give equal vectors: fitted routers are tied to it."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 array of shape (len(texts), dim), rows of unit length, owned by the caller."""
        ...


class TokenEncoder(Encoder, Protocol):
    """One that tells what it reads. reads: the most tokens of a text."""

    reads: int

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """How many each text has, also where they are not all read."""
        ...


class EncoderUnavailable(RuntimeError):
    """The embedding model is missing or cannot be loaded; the message says what to do."""


def head(text: str) -> str:
    """What is read of a text: its first MAX_CHARACTERS, as valid Unicode, with typewriter's quotes and dashes.

    Case, accents and white space need nothing done: the tokenizer of MiniLM and of its table drops them.
    """
    # A lone surrogate (JSON can carry one) is no valid UTF-8: tokenizers and hashes would refuse it.
    return text[:MAX_CHARACTERS].translate(_TYPEWRITER).encode("utf-8", "replace").decode()


def counter(source: str) -> "Tokenizer":
    """A tokenizer that leaves nothing out and adds nothing. source: `tokenizer.json`, as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(source)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
