"""Layers of OmniTokenizer: attention in a row of tokens or in windows of a frame, and a convolution over a clip.

Shapes: R rows (the frames of all clips, or the places of all clips), S tokens of a row, D width, K heads, d head width;
B clips of t x h x w tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.models.common.activations import gelu
from arzoo.models.common.rope import rotate

SCALE = 8.0
"""Factor of the cosines of queries and keys before the softmax."""


class ClipConvolution(nn.Conv3d):
    """Depthwise convolution, whose borders of zeros tell tokens where they are.

    PEG of "Conditional Positional Encodings for Vision Transformers", 2021, section 3.2, over clips as in "Phenaki",
    2022.

    Args:
        width: D.
        causal: See no later frame.
    """

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__(width, width, 3, padding=(0 if causal else 1, 1, 1), groups=width)
        self.causal = causal

    def forward(self, x_BthwD: Tensor) -> Tensor:
        """Convolve a clip of tokens.

        A convolution of frames for each of the three steps in time: PyTorch has no fast depthwise one of clips.
        """
        before, length = 2 if self.causal else 1, x_BthwD.shape[1]
        x_BtDhw = F.pad(x_BthwD, (0, 0, 0, 0, 0, 0, before, 2 - before)).movedim(-1, 2)
        steps = [x_BtDhw[:, step : step + length].flatten(0, 1) for step in range(3)]
        convolved = [
            F.conv2d(frames, kernel, bias, padding=1, groups=self.groups)
            for frames, kernel, bias in zip(
                steps, self.weight.unbind(2), (self.bias, None, None), strict=True
            )
        ]
        return sum(convolved[1:], convolved[0]).unflatten(0, (-1, length)).movedim(2, -1)


class Attention(nn.Module):
    """Attention on cosines: queries and keys have length one, times learned scales of their channels.

    Args:
        width: D.
        heads: K.
        head_width: d.
        raw_keys: Compute keys and values from the input before its norm, as published.
    """

    def __init__(self, width: int, heads: int, head_width: int, raw_keys: bool) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.raw_keys = heads, raw_keys
        self.norm = nn.LayerNorm(width, bias=False)
        self.q, self.kv = nn.Linear(width, inner, bias=False), nn.Linear(width, 2 * inner, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(head_width)) for _ in range(2))
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x_RSD: Tensor, causal: bool, turns: Tensor | None, bias: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x_RSD: Tokens.
            causal: A token sees no later one.
            turns: (1, S, 1, d / 2) complex rotations of queries and keys, or None.
            bias: (K, S, S) added to the scores, or None.
        """
        normed = self.norm(x_RSD)
        k, v = self.kv(x_RSD if self.raw_keys else normed).chunk(2, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (self.q(normed), k, v))
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        q = (F.normalize(q, dim=-1) * self.q_scale).to(v.dtype)
        k = (F.normalize(k, dim=-1) * self.k_scale).to(v.dtype)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if bias is not None and causal:
            later = torch.ones(bias.shape[1:], dtype=torch.bool, device=bias.device).triu(1)
            bias, causal = bias.masked_fill(later, -math.inf), False
        mask = None if bias is None else bias[None].to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=SCALE)
        return self.out(mixed.transpose(1, 2).flatten(2))


class WindowAttention(nn.Module):
    """Attention inside square windows of a frame, with a learned bias for each offset ("Swin Transformer", 2021, 3.2).

    Args:
        width: D.
        heads: K.
        window: Side of a window in tokens.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width, bias=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))

    def forward(self, x_RSD: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x_RSD: Tokens of frames.
            grid: (h, w) of a frame, multiples of the window.
        """
        side, (h, w) = self.window, grid
        x = self.norm(x_RSD).view(-1, h // side, side, w // side, side, x_RSD.shape[-1])
        x = x.transpose(2, 3).reshape(-1, side * side, x_RSD.shape[-1])
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.table[offsets(side, side, x.device)].permute(2, 0, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        x = self.proj(mixed.transpose(1, 2).flatten(2))
        x = x.view(-1, h // side, w // side, side, side, x.shape[-1]).transpose(2, 3)
        return x.reshape(x_RSD.shape)


class OffsetBias(nn.Module):
    """Bias of attention that a small network computes from the offset of two places ("Swin Transformer V2", 2021, 3.3).

    Args:
        width: Hidden units D.
        heads: K.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, heads)])

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Bias (K, h * w, h * w) of the tokens of a frame of (h, w)."""
        places = torch.cartesian_prod(*(torch.arange(n, device=self.layers[0].weight.device) for n in grid))
        x = (places[:, None] - places).float()
        x = x.sign() * x.abs().log1p()
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.1)
        return self.layers[-1](x).permute(2, 0, 1)


class FeedForward(nn.Module):
    """Feed-forward with a gate ("GLU Variants Improve Transformer", 2020: GEGLU).

    Args:
        width: D.
        hidden: Hidden units.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = (
            nn.Linear(width, 2 * hidden, bias=False),
            nn.Linear(hidden, width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (..., D)."""
        values, gates = self.up(self.norm(x)).chunk(2, -1)
        return self.down(values * gelu(gates))


def offsets(height: int, width: int, device: torch.device) -> Tensor:
    """Number of the offset (h * w, h * w) of each two places of a window: rows times columns of all possible ones."""
    rows, columns = torch.cartesian_prod(
        torch.arange(height, device=device), torch.arange(width, device=device)
    ).unbind(1)
    row, column = rows[:, None] - rows, columns[:, None] - columns
    return (row + height - 1) * (2 * width - 1) + column + width - 1


def frame_turns(grid: tuple[int, int], head_width: int, base: float = 1e4) -> Tensor:
    """Rotations (h * w, d / 2) of queries and keys of a frame: even pairs by the column, odd ones by the row."""
    rows, columns = torch.cartesian_prod(*(torch.arange(n).float() for n in grid)).unbind(1)
    speeds = base ** (-torch.arange(0, head_width, 4).float() / head_width)
    angles = torch.stack([columns[:, None] * speeds, rows[:, None] * speeds], -1).flatten(1)
    return torch.polar(torch.ones_like(angles), angles)


def distance_bias(heads: int, length: int) -> Tensor:
    """Bias (K, S, S) that falls with the distance in time, steeper in each head ("ALiBi", 2022, section 3)."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * power, 2)]
    places = torch.arange(length)
    return -torch.tensor(slopes[:heads])[:, None, None] * (places[:, None] - places).abs()
