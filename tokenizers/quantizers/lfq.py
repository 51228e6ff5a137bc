"""Lookup-free quantization: the signs of the channels are the bits of the code.

"Language Model Beats Diffusion - Tokenizer is Key to Visual Generation" (MAGVIT-v2), 2023, section 3.1. Entropies are
computed channel by channel: given the vector, channels are independent and the distribution of codes factorises, so
2^18 codes need no table. Over the data channels are not independent, so the entropy of the mean is an upper bound.

Shapes: ... any leading axes, C channels, n vectors.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.tokenizers.quantizers.base import Quantization, Quantizer, exact

First = Literal["lowest", "highest"]


class LFQ(Quantizer):
    """Quantize each channel to its sign.

    Args:
        channels: Bits C of a code, at most 24.
        first: Whether the first channel is the lowest bit (Open-MAGVIT2) or the highest.
        temperature: Temperature of the soft assignment in the entropy loss.

    Raises:
        ArzooError: The number of bits is out of range.
    """

    basis: Tensor

    def __init__(self, channels: int, first: First = "lowest", temperature: float = 0.01) -> None:
        if not 1 <= channels <= 24:
            raise ArzooError(f"LFQ takes 1 to 24 channels, one bit each; got {channels}")
        super().__init__(1 << channels, channels)
        self.temperature = temperature
        powers = 2 ** torch.arange(channels)
        self.register_buffer("basis", powers if first == "lowest" else powers.flip(0), persistent=False)

    def forward(self, z: Tensor) -> Quantization:
        """Quantize (..., C) to -1 and 1; zero counts as -1. In training mode the codes are recorded as used."""
        with exact(z.device):
            z = z.float()
            bits = z > 0
            signs = bits.float() * 2 - 1
            codes = (bits.long() * self.basis).sum(-1)
            if self.training:
                self.remember(codes.flatten())
            losses = {"commitment": F.mse_loss(z, signs), "entropy": self.entropy(z.flatten(0, -2))}
            return Quantization(z + (signs - z).detach(), codes, losses)

    def entropy(self, z: Tensor) -> Tensor:
        """Mean entropy of the bits of vectors (n, C), minus the entropy of their means, in nats per vector."""
        # Squared distances to -1 and 1 differ by 4 z; with logits -distance / temperature that is a sigmoid.
        p = torch.sigmoid(4 * z.float() / self.temperature)
        return (_bits(p).mean(0) - _bits(p.mean(0))).sum()

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (..., C) of -1 and 1, float32, of codes (...)."""
        return (codes[..., None] // self.basis % 2).float() * 2 - 1


def _bits(p: Tensor) -> Tensor:
    """Entropy in nats of bits that are 1 with probability p."""
    return torch.special.entr(p) + torch.special.entr(1 - p)
