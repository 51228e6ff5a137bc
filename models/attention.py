"""Attention and feed-forward parts of decoder-only transformers, with a static key-value cache.

Shapes: R rows, S new tokens, L cached tokens, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.rope import rotate

KeyValue = tuple[Tensor, ...]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention.

    On a CPU two matrix products beat the fused kernel for the few hundred tokens of an image; elsewhere SDPA is used.

    Args:
        query: (R, heads, S, head_width).
        key: (R, heads, L, head_width).
        value: (R, heads, L, head_width).
        mask: (1 or R, 1, S, L) bool, True where a query may look, or None for all.
    """
    if query.device.type != "cpu" or query.shape[2] * key.shape[2] > 1 << 20:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ value


class Dropout(nn.Module):
    """Dropout whose mask may be shared by all positions of a sample.

    A shared mask needs one random number a channel instead of one an element, which is what CPU training can afford.
    """

    def __init__(self, p: float, shared: bool) -> None:
        super().__init__()
        self.p, self.shared = p, shared

    def forward(self, x: Tensor) -> Tensor:
        """x (B, S, D)."""
        if not self.training or self.p == 0:
            return x
        if not self.shared:
            return F.dropout(x, self.p)
        return x * F.dropout(torch.ones_like(x[:, :1]), self.p)


class Attention(nn.Module):
    """Multi-head self-attention without biases; `qkv` is a plain [q | k | v] concatenation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Tensor | None, cache: KeyValue | None = None, fill: int = 0
    ) -> Tensor:
        """Attend.

        Args:
            x: (R, S, D) new tokens.
            rope: (1 or R, S, head_width / 2, 2), None for models with absolute positions.
            mask: (1 or R, 1, S, fill + S) bool or None.
            cache: Keys and values (R, heads, capacity, head_width) of earlier tokens; the new ones are written.
            fill: Entries of the cache in use.
        """
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, -1))
        if rope is not None:
            turned, v = qkv.split([2 * self.heads, self.heads], 2)
            q, k = rotate(turned, rope).transpose(1, 2).chunk(2, 1)
            v = v.transpose(1, 2)
        else:
            q, k, v = qkv.transpose(1, 2).chunk(3, 1)
        if cache is not None:
            end = fill + x.shape[1]
            cache[0][:, :, fill:end], cache[1][:, :, fill:end] = k, v
            k, v = cache[0][:, :, :end], cache[1][:, :, :end]
        return self.proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """Gated feed-forward ("GLU Variants Improve Transformer", 2020); gate and up are one matrix [gate | up]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (R, S, D)."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm transformer block with RMSNorm."""

    def __init__(
        self, width: int, heads: int, hidden: int, eps: float, dropout: float = 0.0, shared_dropout: bool = False
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.attention, self.mlp = Attention(width, heads), SwiGLU(width, hidden)
        self.dropout1, self.dropout2 = Dropout(dropout, shared_dropout), Dropout(dropout, shared_dropout)

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Tensor | None, cache: KeyValue | None = None, fill: int = 0
    ) -> Tensor:
        """Arguments as in `Attention.forward`."""
        x = x + self.dropout1(self.attention(self.norm1(x), rope, mask, cache, fill))
        return x + self.dropout2(self.mlp(self.norm2(x)))
