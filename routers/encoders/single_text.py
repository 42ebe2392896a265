"""The forward pass of all-MiniLM-L6-v2 for a single text, which is what a decision waits for.

sentence-transformers and transformers spend a third of that time on what a single text does not need: padding, masks,
dropout, the walk through some hundred modules. Here is BERT (Devlin et al., arXiv 1810.04805) as in
transformers.models.bert.modeling_bert: six layers, mean of the tokens, unit length; with the same weights it gives the
same vectors but for rounding.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor


class _Layer:
    """A layer's weights, each with its bias."""

    def __init__(self, layer: Any) -> None:
        import torch

        own, out = layer.attention.self, layer.attention.output
        three = (own.query, own.key, own.value)
        self._attend = torch.cat([part.weight for part in three]), torch.cat([part.bias for part in three])
        self._join = out.dense.weight, out.dense.bias
        self.attention_norm = out.LayerNorm.weight, out.LayerNorm.bias
        self._up = layer.intermediate.dense.weight, layer.intermediate.dense.bias
        self._down = layer.output.dense.weight, layer.output.dense.bias
        self.output_norm = layer.output.LayerNorm.weight, layer.output.LayerNorm.bias

    def attend(self, x: "Tensor") -> "Tensor":
        """(n, dim) to queries, keys and values: (n, 3 * dim)."""
        from torch.nn import functional

        return functional.linear(x, *self._attend)

    def join(self, x: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.linear(x, *self._join)

    def feed(self, x: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.linear(functional.gelu(functional.linear(x, *self._up)), *self._down)


class SingleText:
    """A text to its vector. Thread-safe.

    model: all-MiniLM-L6-v2; its weights are shared but for those of query, key and value, which are put together.
    """

    def __init__(self, model: "SentenceTransformer") -> None:
        import torch
        from tokenizers import Tokenizer

        bert: Any = model[0].auto_model
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(model.max_seq_length or bert.config.max_position_embeddings)
        self._heads, self._epsilon = bert.config.num_attention_heads, bert.config.layer_norm_eps
        words = bert.embeddings
        self._words, self._norm = words.word_embeddings.weight, (words.LayerNorm.weight, words.LayerNorm.bias)
        with torch.inference_mode():
            self._positions = words.position_embeddings.weight + words.token_type_embeddings.weight[0]
            self._layers = [_Layer(layer) for layer in bert.encoder.layer]

    def __call__(self, text: str) -> NDArray[np.float32]:
        """(dim,), of unit length."""
        import torch
        from torch.nn import functional

        ids = self._tokenizer.encode(text).ids
        with torch.inference_mode():
            x = self._normed(self._words[ids] + self._positions[: len(ids)], *self._norm)
            for layer in self._layers:
                query, key, value = layer.attend(x).view(len(ids), 3, self._heads, -1).permute(1, 2, 0, 3)
                heads = functional.scaled_dot_product_attention(query, key, value)
                attended = layer.join(heads.transpose(0, 1).reshape(x.shape))
                x = self._normed(x + attended, *layer.attention_norm)
                x = self._normed(x + layer.feed(x), *layer.output_norm)
            row: NDArray[np.float32] = functional.normalize(x.mean(dim=0), dim=0).numpy()
        return row

    def _normed(self, x: "Tensor", weight: "Tensor", bias: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.layer_norm(x, weight.shape, weight, bias, self._epsilon)
