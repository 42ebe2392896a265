"""A text as a weighted sum of its tokens' vectors: a table distilled from all-MiniLM-L6-v2 (see `distil`), no model.

Encoding needs numpy and the `tokenizers` library only. It takes well under a millisecond and knows no word order; what
that costs in quality is measured by `python -m benchmarks.route_speed --data DIR`.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routers.encoders.base import EncoderUnavailable, Vectors, counter, head

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT = "coe-static-encoder"
VERSION = 1
HEADER, TABLE, TOKENIZER = "encoder.json", "table.npy", "tokenizer.json"
MAX_TOKENS = 512
"""Tokens of a text that are read, twice as many as the model that the table is distilled from reads."""
_CHARACTERS = 8 * MAX_TOKENS


def folder(home: Path) -> Path:
    """Where the static encoder lies."""
    return home / "encoders" / "static"


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coe-static-encoder"]
    version: Literal[1]
    name: str
    dim: int = Field(gt=0)
    tokens: int = Field(gt=0)
    unknown: int = Field(ge=0)
    table_sha256: str
    tokenizer_sha256: str


class StaticEncoder:
    """Implements `routers.encoders.base.Encoder`. Made by `distil` or `load`.

    A token that occurs n times in a text counts sqrt(n) times, so that no word drowns the others.

    name: of the recipe and of what it was made from, so that equal names give equal vectors.
    table: (V, dim) float32, the vector of each token times its weight.
    tokenizer: `tokenizer.json` of the tokenizers library, as text.
    unknown: the token that stands for a text without any.
    """

    reads = MAX_TOKENS

    def __init__(self, name: str, table: Vectors, tokenizer: str, unknown: int) -> None:
        self.name, self.dim = name, table.shape[1]
        self._table, self._source, self._unknown = table, tokenizer, unknown
        self._tokenizer = _tokenizer(tokenizer)
        self._counter = counter(tokenizer)

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """See `TokenEncoder.tokens`."""
        return [len(own.ids) for own in self._counter.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode`. Thread-safe: nothing is changed by it."""
        heads = [head(text[:_CHARACTERS]) for text in texts]
        if len(heads) == 1:  # without the threads that a batch is shared out to
            rows = self._one(self._tokenizer.encode(heads[0], add_special_tokens=False).ids)
        else:
            encoded = self._tokenizer.encode_batch_fast(heads, add_special_tokens=False)
            rows = self._many([tokens.ids or [self._unknown] for tokens in encoded])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows

    def _one(self, ids: list[int]) -> Vectors:
        distinct, counts = np.unique(ids or [self._unknown], return_counts=True)
        row: Vectors = np.sqrt(counts, dtype=np.float32) @ self._table[distinct]
        return row[None]

    def _many(self, ids: list[list[int]]) -> Vectors:
        """The same of many texts: the tokens of all are sorted together, those of a text behind one another."""
        rows = np.empty((len(ids), self.dim), np.float32)
        keys = np.fromiter(chain.from_iterable(ids), np.int64)
        keys += np.repeat(np.arange(len(ids)) * len(self._table), list(map(len, ids)))
        distinct, counts = np.unique(keys, return_counts=True)
        ends = np.searchsorted(distinct, np.arange(1, len(ids) + 1) * len(self._table)).tolist()
        distinct %= len(self._table)
        roots, start = np.sqrt(counts, dtype=np.float32), 0
        for i, end in enumerate(ends):
            rows[i] = roots[start:end] @ self._table[distinct[start:end]]
            start = end
        return rows

    def save(self, folder: Path) -> None:
        """Writes the encoder's files as `folder`, which appears whole or not at all; an older one is replaced."""
        buffer = io.BytesIO()
        np.save(buffer, self._table.astype(np.float16))
        files = {TABLE: buffer.getvalue(), TOKENIZER: self._source.encode()}
        header = _Header(
            format=FORMAT,
            version=VERSION,
            name=self.name,
            dim=self.dim,
            tokens=len(self._table),
            unknown=self._unknown,
            table_sha256=_digest(files[TABLE]),
            tokenizer_sha256=_digest(files[TOKENIZER]),
        )
        files[HEADER] = (header.model_dump_json(indent=1) + "\n").encode()
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            draft.chmod(0o755)  # mkdtemp's 0700 would keep it from the service's own user
            for name, data in files.items():
                (draft / name).write_bytes(data)
            if folder.exists():
                os.replace(folder, draft / "before")
            os.replace(draft, folder)
            shutil.rmtree(folder / "before", ignore_errors=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder that `save` wrote. Raises EncoderUnavailable."""
        try:
            header = _Header.model_validate(json.loads((folder / HEADER).read_bytes()))
            table, tokenizer = (folder / TABLE).read_bytes(), (folder / TOKENIZER).read_bytes()
        except FileNotFoundError as error:
            raise EncoderUnavailable(
                f"there is no static encoder in {folder}: {Path(error.filename).name} is missing; {_MAKE}"
            ) from None
        except (OSError, ValueError, ValidationError) as error:
            raise EncoderUnavailable(
                f"the static encoder in {folder} cannot be read: {_first(error)}; {_MAKE}"
            ) from None
        for name, data, digest in (
            (TABLE, table, header.table_sha256),
            (TOKENIZER, tokenizer, header.tokenizer_sha256),
        ):
            if _digest(data) != digest:
                raise EncoderUnavailable(
                    f"{folder / name} is not the file that {HEADER} was written with; remove the folder and {_MAKE}"
                )
        rows = np.load(io.BytesIO(table), allow_pickle=False)
        if rows.shape != (header.tokens, header.dim) or header.unknown >= header.tokens:
            raise EncoderUnavailable(f"the static encoder in {folder} does not have the shape of its header; {_MAKE}")
        return cls(header.name, rows.astype(np.float32), tokenizer.decode(), header.unknown)


_MAKE = "make it anew with `python -m routers.encoders.distil`"


def _tokenizer(source: str) -> "Tokenizer":
    tokenizer = counter(source)
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first(error: Exception) -> str:
    return (
        f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}" if isinstance(error, ValidationError) else str(error)
    )
