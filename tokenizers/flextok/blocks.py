"""Transformer blocks of FlexTok ("FlexTok", 2025, appendix): float32 norms without gain, normed queries and keys.

Shapes: B samples, S tokens, P patches, K registers, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.common.attention import SwiGLU


def norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis without gain, computed in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-5).to(x.dtype)


class NormedAttention(nn.Module):
    """Self-attention whose queries and keys are normed per head; `qkv` is [q | k | v]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend; `mask` (S, S) is True where a query may attend."""
        q, k, v = self.qkv(x_BSD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(norm(q), norm(k), v, attn_mask=mask)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a gated feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = NormedAttention(width, heads), SwiGLU(width, 8 * width // 3)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform; arguments as in `NormedAttention.forward`."""
        x_BSD = x_BSD + self.attention(norm(x_BSD), mask)
        return x_BSD + self.mlp(norm(x_BSD))


class TimedBlock(nn.Module):
    """A block modulated by the time, with separate modulations of patches and registers.

    The parts are gate, gate, shift, scale, shift, scale (attention before feed-forward), for patches, then registers.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = NormedAttention(width, heads), SwiGLU(width, 8 * width // 3)
        self.modulation = nn.Linear(width, 12 * width)

    def forward(self, x_BSD: Tensor, time: Tensor, patches: int) -> Tensor:
        """Transform.

        Args:
            x_BSD: Patches, then registers.
            time: (1 or B, D) embedded time after its activation.
            patches: Number of patches.
        """
        parts = self.modulation(time).unflatten(-1, (2, 6, 1, -1))

        def spread(part: int) -> Tensor:
            """Repeat a part over patches and registers: (1 or B, S, D)."""
            count = x_BSD.shape[1] - patches
            rows = parts[:, :, part]
            return torch.cat([rows[:, 0].expand(-1, patches, -1), rows[:, 1].expand(-1, count, -1)], 1)

        y = self.attention(norm(x_BSD) * (1 + spread(3)) + spread(2))
        x_BSD = x_BSD + spread(0) * y
        return x_BSD + spread(1) * self.mlp(norm(x_BSD) * (1 + spread(5)) + spread(4))


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
