"""The vectors of the latest texts."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class VectorCache:
    """Least-recently-used map of text -> vector, thread-safe. Keys are digests: a prompt may be thousands of times its
    vector.

    size: number of texts; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those texts that are known."""
        found: dict[str, NDArray[np.float32]] = {}
        if not self._rows:
            return found
        with self._lock:
            for text in texts:
                key = _key(text)
                if (row := self._rows.get(key)) is not None:
                    self._rows.move_to_end(key)
                    found[text] = row
        return found

    def put(self, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Keeps them, and forgets the least recently used that are too many."""
        if self._size == 0:
            return
        with self._lock:
            for text, row in rows.items():
                # A copy, since a row of a batch keeps the whole batch alive.
                self._rows[_key(text)] = row.copy()
                self._rows.move_to_end(_key(text))
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)

    def __len__(self) -> int:
        return len(self._rows)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
