"""Convolutional encoder and decoder of VQGAN-like tokenizers.

"Taming Transformers for High-Resolution Image Synthesis", 2021, section 3.1, in the arithmetic of LlamaGen,
2024, and of the KL autoencoders of "High-Resolution Image Synthesis with Latent Diffusion Models", 2022:
GroupNorm with epsilon 1e-6 and swish; single-head attention in the middle and, optionally, at the deepest
level; downsampling by a zero row and column at the bottom right and a strided convolution; upsampling by
nearest neighbor and a convolution. With `unshuffle` > 1 the first and last convolutions work on patches of that
side, which makes small models fast on a CPU.

Shapes: B pictures, C channels, h x w latent grid.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Literal["none", "middle", "deepest"]
"""Where a network attends: nowhere, in its middle, or in its middle and after every block of the deepest level."""


class GroupNorm(nn.GroupNorm):
    """GroupNorm that copies features to the layout in which torch is fast, and back.

    In bfloat16 on a CPU with the channels last, torch takes 4 to 8 times as long for small grids and narrow groups.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize features (B, C, h, w)."""
        narrow = self.num_channels < 16 * self.num_groups and x.shape[2] * x.shape[3] < 1024
        slow = narrow and x.device.type == "cpu" and x.dtype == torch.bfloat16 and not x.is_contiguous()
        if not slow:
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or the largest power of two below that divides the width."""
    return GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """norm - swish - conv - norm - swish - conv, plus a 1x1 shortcut where the width changes."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (B, C, h, w)."""
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class AttentionBlock(nn.Module):
    """Single-head attention over all grid positions, with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (B, C, h, w)."""
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
        return x + self.proj((weights @ v).transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve the grid; padding is added on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, C, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the grid by nearest neighbor, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, C, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, optional attention after each, and a resampling at the end."""

    def __init__(
        self, inner: int, outer: int, blocks: int, attention: bool, resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(inner if i == 0 else outer, outer) for i in range(blocks))
        self.attention = nn.ModuleList(AttentionBlock(outer) for _ in range(blocks if attention else 0))
        self.resample = resample or nn.Identity()

    def repeated_blocks(self) -> list[nn.Module]:
        """Residual and attention blocks of the level."""
        return [*self.blocks, *self.attention]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features at the resolution of the next level."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attention:
                x = self.attention[i](x)
        return self.resample(x)


def _middle(channels: int, attention: Attention) -> nn.Sequential:
    attend = [AttentionBlock(channels)] if attention != "none" else []
    return nn.Sequential(ResidualBlock(channels, channels), *attend, ResidualBlock(channels, channels))


class Encoder(nn.Module):
    """Map pictures to a latent grid.

    Args:
        widths: Channels of each level, finest first; the grid halves between levels.
        blocks: Residual blocks per level.
        latent: Channels of the result.
        attention: Where the network attends.
        unshuffle: Side of the patches that the first convolution sees as one pixel.
    """

    def __init__(
        self, widths: tuple[int, ...], blocks: int, latent: int, attention: Attention, unshuffle: int
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.conv_in = nn.Conv2d(3 * unshuffle**2, widths[0], 3, padding=1)
        last, deepest = len(widths) - 1, attention == "deepest"
        self.levels = nn.ModuleList(
            Level(
                widths[max(i - 1, 0)], w, blocks, deepest and i == last, Downsample(w) if i < last else None
            )
            for i, w in enumerate(widths)
        )
        self.middle = _middle(widths[-1], attention)
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, latent, h, w)."""
        x = self.conv_in(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        for level in self.levels:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """Map a latent grid to pictures; arguments as for `Encoder`, `widths` finest first."""

    def __init__(
        self, widths: tuple[int, ...], blocks: int, latent: int, attention: Attention, unshuffle: int
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        deep = widths[::-1]
        self.conv_in = nn.Conv2d(latent, deep[0], 3, padding=1)
        self.middle = _middle(deep[0], attention)
        last, deepest = len(deep) - 1, attention == "deepest"
        self.levels = nn.ModuleList(
            Level(deep[max(i - 1, 0)], w, blocks, deepest and i == 0, Upsample(w) if i < last else None)
            for i, w in enumerate(deep)
        )
        self.norm_out, self.conv_out = norm(deep[-1]), nn.Conv2d(deep[-1], 3 * unshuffle**2, 3, padding=1)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the last convolution, at which the adaptive weight of an adversarial loss is computed."""
        return self.conv_out.weight

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent, h, w) -> (B, 3, H, W)."""
        x = self.middle(self.conv_in(z))
        for level in self.levels:
            x = level(x)
        x = self.conv_out(F.silu(self.norm_out(x)))
        return F.pixel_shuffle(x, self.unshuffle) if self.unshuffle > 1 else x
