"""Attention and feed-forward parts of decoder-only transformers, with a static key-value cache.

Shapes: R rows, S new tokens, L cached tokens, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.common.activations import silu
from arzoo.models.common.rope import rotate

KeyValue = tuple[Tensor, ...]


def empty_cache(
    layers: int, rows: int, width: int, heads: int, capacity: int, like: Tensor
) -> list[KeyValue]:
    """Allocate static keys and values (R, heads, capacity, width / heads) for each layer.

    Args:
        layers: Number of layers.
        rows: R.
        width: Channels of all heads.
        heads: Attention heads.
        capacity: Entries per row.
        like: A weight whose type and device they have.
    """
    shape = rows, heads, capacity, width // heads
    return [(like.new_empty(shape), like.new_empty(shape)) for _ in range(layers)]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Softmax attention.

    In bfloat16 on a CPU, with the few hundred tokens of an image, products of matrices take a third of the time of the
    fused kernel with gradients, and two thirds without. In float32 the fused kernel is faster.

    Args:
        query: (R, heads, S, head_width).
        key: (R, heads, L, head_width).
        value: (R, heads, L, head_width).
        mask: (1 or R, 1 or heads, 1 or S, L) bool, True where a query may attend, or None for everywhere.
        dropout: Share of attention weights that are dropped.
    """
    small = query.device.type == "cpu" and query.shape[2] * key.shape[2] <= 1 << 20
    low = query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    if not (small and (low or dropout)):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    shift = query.new_zeros(1, 1, 1, 1)
    if mask is not None:
        shift = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    shift = shift.expand(*query.shape[:2], -1, -1).flatten(0, 1)
    query, key = query.flatten(0, 1), key.flatten(0, 1)
    scores = torch.baddbmm(shift, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
    weights = scores.unflatten(0, value.shape[:2]).softmax(-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ value


class Dropout(nn.Module):
    """Dropout whose mask may be shared by all positions of a sample.

    A shared mask needs one random number per channel instead of one per element, which makes training on a CPU faster.
    """

    def __init__(self, p: float, shared: bool) -> None:
        super().__init__()
        self.p, self.shared = p, shared

    def forward(self, x: Tensor) -> Tensor:
        """Drop channels or elements of x (B, S, D)."""
        if not self.training or self.p == 0:
            return x
        if not self.shared:
            return F.dropout(x, self.p)
        return x * F.dropout(torch.ones_like(x[:, :1]), self.p)


class Attention(nn.Module):
    """Multi-head self-attention; `qkv` is a plain [q | k | v] concatenation.

    With `norm_eps`, the epsilon, queries and keys of each head are normed, each with a LayerNorm.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        qkv_bias: bool = False,
        proj_bias: bool = False,
        dropout: float = 0.0,
        norm_eps: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width, bias=proj_bias)
        self.norms = (
            nn.ModuleList(nn.LayerNorm(width // heads, norm_eps) for _ in range(2)) if norm_eps else None
        )

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None,
        mask: Tensor | None,
        cache: KeyValue | None = None,
        fill: int = 0,
    ) -> Tensor:
        """Compute self-attention.

        Args:
            x: (R, S, D) new tokens.
            rope: (1 or R, S, 1, head_width / 2) complex, from `turns`; None for models with absolute positions.
            mask: (1 or R, 1, S, fill + S) bool or None.
            cache: Keys and values (R, heads, capacity, head_width) of earlier tokens; the new ones are written to it.
            fill: Entries of the cache in use.
        """
        rows, new = x.shape[:2]
        qkv = self.qkv(x).view(rows, new, 3 * self.heads, -1)
        turned, v = qkv.split([2 * self.heads, self.heads], 2)  # slices would fill gradients with zeros first
        if self.norms is not None:
            parts = zip(self.norms, turned.chunk(2, 2), strict=True)
            turned = torch.cat([norm(part) for norm, part in parts], 2)
        if rope is not None:
            turned = rotate(turned, rope)
        (q, k), v = turned.transpose(1, 2).chunk(2, 1), v.transpose(1, 2)
        if cache is not None:
            keys, values, end = *cache, fill + new
            keys[:, :, fill:end], values[:, :, fill:end] = k, v
            k, v = keys[:, :, :end], values[:, :, :end]
        dropout = self.dropout if self.training else 0.0
        return self.proj(attend(q, k, v, mask, dropout).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """Gated feed-forward ("GLU Variants Improve Transformer", 2020); gate and up are one matrix [gate | up]."""

    def __init__(self, width: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x (R, S, D)."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(silu(gate) * up)


class Block(nn.Module):
    """Pre-norm transformer block with RMSNorm."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        eps: float,
        dropout: float = 0.0,
        shared_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.attention, self.mlp = Attention(width, heads), SwiGLU(width, hidden)
        self.dropout1, self.dropout2 = Dropout(dropout, shared_dropout), Dropout(dropout, shared_dropout)

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None,
        mask: Tensor | None,
        cache: KeyValue | None = None,
        fill: int = 0,
    ) -> Tensor:
        """Apply the block; arguments as in `Attention.forward`."""
        y = self.attention(self.norm1(x), rope, mask, cache, fill)
        x = x + (self.dropout1(y) if self.training else y)
        y = self.mlp(self.norm2(x))
        return x + (self.dropout2(y) if self.training else y)
