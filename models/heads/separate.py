"""Transformer blocks over the codes of a position whose feed-forward layer is another one at each depth (LongCat-Next).

Shapes: R rows, S codes so far, Q codebooks, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.common.attention import attend


class SeparateFeedForward(nn.Module):
    """A feed-forward layer with exact GELU and no biases, of weights of its own at each depth.

    Args:
        width: D.
        hidden: Hidden units at each depth.
        depths: Q.
    """

    def __init__(self, width: int, hidden: int, depths: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(depths, width, hidden))
        self.down = nn.Parameter(torch.empty(depths, hidden, width))
        for weight in (self.up, self.down):
            if not weight.is_meta:
                nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)  # as nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer of depth s to x[:, s], of x (R, S, D) with S at most Q."""
        count = x.shape[1]
        hidden = F.gelu(torch.einsum("rsd,sdh->rsh", x, self.up[:count]))
        return torch.einsum("rsh,shd->rsd", hidden, self.down[:count])


class SeparateBlock(nn.Module):
    """Pre-norm block with RMSNorm, causal attention without positions, and `SeparateFeedForward`.

    Queries, values and outputs of attention have biases, keys have none.
    """

    def __init__(self, width: int, heads: int, hidden: int, depths: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width, 1e-6), nn.RMSNorm(width, 1e-6)
        self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)
        self.mlp = SeparateFeedForward(width, hidden, depths)

    def forward(self, x: Tensor, rope: None, mask: Tensor) -> Tensor:
        """Apply the block to x (R, S, D), S codes of a position, with the mask of `Block`; depths have no positions."""
        y = self.norm1(x)
        parts = (
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        x = x + self.proj(attend(*parts, mask).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
