"""Transformer blocks of FlexTok ("FlexTok", 2025, appendix): float32 norms without gain, normed queries and keys.

Shapes: B samples, S tokens, P patches, K registers, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.common.attention import SwiGLU, attend


def norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis without gain, computed in float32."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-5).to(x.dtype)


class NormedAttention(nn.Module):
    """Self-attention whose queries and keys are normed per head; `qkv` is [q | k | v]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None, queries: slice = slice(None)) -> Tensor:
        """Attend.

        Args:
            x_BSD: Tokens.
            mask: (1, 1, queries, S), True where a query may attend.
            queries: Tokens that attend; the others are only attended to.
        """
        both, v = self.qkv(x_BSD).unflatten(-1, (3 * self.heads, -1)).split([2 * self.heads, self.heads], 2)
        q, k = norm(both).transpose(1, 2).chunk(2, 1)
        return self.proj(attend(q[:, :, queries], k, v.transpose(1, 2), mask).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a gated feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = NormedAttention(width, heads), SwiGLU(width, 8 * width // 3)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None, outputs: slice = slice(None)) -> Tensor:
        """Transform the tokens `outputs`; arguments as in `NormedAttention.forward`."""
        x_BSD = x_BSD[:, outputs] + self.attention(norm(x_BSD), mask, outputs)
        return x_BSD + self.mlp(norm(x_BSD))


class TimedBlock(nn.Module):
    """A block modulated by the time, with separate modulations of patches and registers.

    The parts are gate, gate, shift, scale, shift, scale (attention before feed-forward), for patches, then registers.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = NormedAttention(width, heads), SwiGLU(width, 8 * width // 3)
        self.modulation = nn.Linear(width, 12 * width)

    def forward(self, streams: Sequence[Tensor], time: Tensor, count: int = 2) -> list[Tensor]:
        """Transform patches and registers, which are two tensors because their modulations differ.

        Args:
            streams: Patches (B, P, D) and registers (B, K, D).
            time: (1 or B, D) embedded time after its activation.
            count: 2, or 1 to transform the patches alone, which still attend to the registers.
        """
        patches, registers = (part.chunk(6, -1) for part in self.modulation(time)[:, None].chunk(2, -1))

        def modulated(shift: int, scale: int) -> Tensor:
            """Normed tokens of both streams, or of the patches alone where there are no registers any more."""
            pairs = zip(streams, (patches, registers), strict=False)
            return torch.cat([torch.addcmul(part[shift], norm(x), 1 + part[scale]) for x, part in pairs], 1)

        def added(y: Tensor, gate: int) -> list[Tensor]:
            """The first `count` streams plus their share of y, gated."""
            triples = zip(streams, (patches, registers), y.split(sizes, 1), strict=False)
            return [torch.addcmul(x, part[gate], share) for x, part, share in triples]

        sizes = [x.shape[1] for x in streams[:count]]
        streams = added(self.attention(modulated(2, 3), queries=slice(sum(sizes))), 0)
        return added(self.mlp(modulated(4, 5)), 1)


class TimeEmbedding(nn.Module):
    """128 cosines and 128 sines, with periods up to 256 times the shortest, and two layers.

    Args:
        width: Channels.
        longest: Largest time; it is scaled to 1000.
    """

    def __init__(self, width: int, longest: float) -> None:
        super().__init__()
        self.longest = longest
        self.fc1, self.fc2 = nn.Linear(256, width), nn.Linear(width, width)

    def waves(self, t: Tensor) -> Tensor:
        """Cosines and sines (..., 256), float32, of times (...)."""
        # The order of operations, in float32, is the published one: others differ by 5e-5, as frequencies reach 1000.
        index = torch.arange(128, dtype=torch.float32, device=t.device)
        frequency = 1000 / self.longest * torch.exp(-math.log(256) * index / 128)
        angle = t.float()[..., None] * frequency
        return torch.cat([angle.cos(), angle.sin()], -1)

    def forward(self, t: Tensor) -> Tensor:
        """Embedding (..., D) of times (...)."""
        return self.fc2(F.silu(self.fc1(self.waves(t).to(self.fc1.weight.dtype))))
