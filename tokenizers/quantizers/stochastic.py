"""Stochastic vector quantization: codes are drawn by their cosine similarity.

"LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior", 2024, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.tokenizers.quantizers.base import exact
from arzoo.tokenizers.quantizers.vq import VectorQuantizer


class StochasticQuantizer(VectorQuantizer):
    """A codebook on the unit sphere from which codes are drawn in training; in evaluation the most similar is taken.

    Args:
        vocab: Number of codes K.
        channels: Width C of a code.
        temperature: Similarities are divided by it; the lower, the more often the most similar code is drawn.
    """

    def __init__(self, vocab: int, channels: int, temperature: float = 0.03) -> None:
        super().__init__(vocab, channels)
        self.temperature = temperature

    @torch.no_grad()
    def probabilities(self, z: Tensor) -> Tensor:
        """Probabilities (..., K), float32, of all codes for vectors (..., C)."""
        with exact(z.device):
            return self._softmax(self._placed(z), self.table)

    def _softmax(self, vectors: Tensor, table: Tensor) -> Tensor:
        return (vectors @ table.T / self.temperature).softmax(-1)

    def assign(self, vectors: Tensor, table: Tensor) -> Tensor:
        """Codes (...) of vectors (..., C), of a table (K, C), both on the unit sphere."""
        if not self.training:
            return (vectors @ table.T).argmax(-1)
        # One normal number a vector, which training makes a function of the sample, picks a place of the running sum.
        running = self._softmax(vectors, table).double().cumsum(-1)
        level = torch.special.ndtr(torch.randn_like(vectors[..., 0]))[..., None] * running[..., -1:]
        return torch.searchsorted(running, level)[..., 0]
