"""The choice of an encoder, as `router.encoder` of coe.yaml names it."""

from pathlib import Path
from typing import Literal

from routers.blas import blas_threads
from routers.encoders import distil
from routers.encoders.base import Progress, TokenEncoder
from routers.encoders.minilm import MiniLMEncoder
from routers.encoders.static import folder

Kind = Literal["minilm", "static"]


def open_encoder(
    kind: Kind,
    home: Path,
    *,
    threads: int = 1,
    on_progress: Progress = lambda what, done, of: None,
) -> TokenEncoder:
    """The encoder of that kind. The static one lies under `home` and is distilled if it is missing or damaged.

    threads: of MiniLM, and of numpy's BLAS in this whole process. on_progress: gets ("tokens", done, of) while the
    static encoder is made.
    Raises EncoderUnavailable.
    """
    if kind == "minilm":
        return MiniLMEncoder(threads=threads)
    blas_threads(threads)
    return distil.load_or_distil(folder(home), on_progress)
