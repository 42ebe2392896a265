"""all-MiniLM-L6-v2 to a table token -> vector, for `StaticEncoder`, as model2vec (github.com/MinishLab/model2vec) does.

    python -m routers.encoders.distil [--home DIR]      # into DIR/encoders/static; 20 s on two cores

1. Each token of the vocabulary is embedded by the model alone, between [CLS] and [SEP].
2. The table is centred and turned to its principal components, of which the first DIM stay.
3. Each row is weighted by smooth inverse frequency a / (a + p) (Arora, Liang and Ma, ICLR 2017). p is Zipf's: the
   tokens of the vocabulary stand in the order of their frequency, p of rank r is proportional to 1 / r.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

import numpy as np

from routers.encoders import static
from routers.encoders.base import EncoderUnavailable, Progress, Vectors
from routers.encoders.minilm import MiniLMEncoder
from routers.encoders.static import StaticEncoder

RECIPE = 1
"""Changes with whatever changes the table: it is part of the encoder's name."""
DIM = 384
SIF = 1e-2
"""a of step 3."""
NAME = f"{MiniLMEncoder.name}/static-{DIM}.{RECIPE}"
_FIRST_WORD = 999
"""Tokens before it are special or unused; punctuation and letters follow, then words and pieces by frequency."""
_UNKNOWN = "[UNK]"
_BATCH = 1024


def distil(teacher: MiniLMEncoder, on_progress: Progress = lambda what, done, of: None) -> StaticEncoder:
    """The table of `teacher`; the same model gives the same table but for rounding.

    on_progress: gets ("tokens", done, of).
    """
    source = teacher.tokenizer
    vocabulary: dict[str, int] = json.loads(source)["model"]["vocab"]
    tokens = np.zeros((len(vocabulary), teacher.dim), np.float32)
    for start in range(0, len(tokens), _BATCH):
        end = min(start + _BATCH, len(tokens))
        tokens[start:end] = teacher.encode_tokens(range(start, end))
        on_progress("tokens", end, len(tokens))
    table = principal(tokens, DIM) * frequency_weights(len(tokens))[:, None]
    # Rounded as in its file: a fresh encoder and a loaded one give the same vectors.
    rounded = table.astype(np.float16).astype(np.float32)
    return StaticEncoder(NAME, rounded, source, vocabulary[_UNKNOWN])


def principal(tokens: Vectors, dim: int) -> Vectors:
    """The rows of `tokens` on the first `dim` principal components of the words among them."""
    centred = tokens.astype(np.float64) - tokens[_FIRST_WORD:].mean(axis=0)
    _, axes = np.linalg.eigh(centred[_FIRST_WORD:].T @ centred[_FIRST_WORD:])
    axes = axes[:, ::-1][:, :dim]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes *= np.where(largest < 0, -1, 1)  # the sign of an axis is arbitrary: this one is always the same
    rows: Vectors = (centred @ axes).astype(np.float32)
    return rows


def frequency_weights(tokens: int) -> Vectors:
    """a / (a + p) of each token; 1 for those that are no words."""
    rank = np.arange(1, tokens - _FIRST_WORD + 1)
    p = 1 / rank / (1 / rank).sum()
    weights: Vectors = np.concatenate([np.ones(_FIRST_WORD), SIF / (SIF + p)]).astype(np.float32)
    return weights


def load_or_distil(folder: Path, on_progress: Progress = lambda what, done, of: None) -> StaticEncoder:
    """The static encoder in `folder`, made and saved there if it is missing, damaged or of an older recipe.

    Raises EncoderUnavailable if it has to be made and MiniLM is not installed.
    """
    with contextlib.suppress(EncoderUnavailable):
        encoder = StaticEncoder.load(folder)
        if encoder.name == NAME:
            return encoder
    encoder = distil(MiniLMEncoder(threads=os.cpu_count() or 1, cache=0), on_progress)
    encoder.save(folder)
    return encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="data folder (default: COE_HOME or ~/.coe)")
    home = parser.parse_args().home or Path(os.environ.get("COE_HOME", "~/.coe")).expanduser()
    distil(MiniLMEncoder(threads=os.cpu_count() or 1, cache=0), _print).save(static.folder(home))
    print(f"\n{NAME}: {static.folder(home)}")


def _print(what: str, done: int, of: int) -> None:
    print(f"\r{what}: {done} of {of}", end="", flush=True)


if __name__ == "__main__":
    main()
