"""An encoder that has seen its texts before."""

from collections.abc import Sequence

import numpy as np

from routers.encoders.base import Encoder, Progress, Vectors

_BATCH = 256


class Embedded:
    """Implements `routers.encoders.base.Encoder`: texts given at the start are looked up, others go to `encoder`.

    Cross-validation fits many routers on parts of the same prompts; each prompt is embedded once. The vectors do not
    depend on the parts, so nothing of a held-out score gets into a router this way.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], on_progress: Progress | None = None) -> None:
        """on_progress: gets ("prompts embedded", done, of)."""
        self.name, self.dim = encoder.name, encoder.dim
        self._encoder = encoder
        own = list(dict.fromkeys(texts))
        self._places = {text: place for place, text in enumerate(own)}
        self._vectors = np.zeros((len(own), encoder.dim), np.float32)
        for start in range(0, len(own), _BATCH):
            part = own[start : start + _BATCH]
            self._vectors[start : start + len(part)] = encoder.encode(part)
            if on_progress is not None:
                on_progress("prompts embedded", start + len(part), len(own))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode`."""
        places = [self._places.get(text) for text in texts]
        if None in places:
            return self._encoder.encode(texts)
        vectors: Vectors = self._vectors[np.array(places, np.intp)]
        return vectors
