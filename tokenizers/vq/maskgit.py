"""The VQGAN of MaskGIT and MAGE, whose codes adaptive and one-dimensional tokenizers learn to predict.

"MaskGIT: Masked Generative Image Transformer", 2022, in the arithmetic of "MAGE", 2023: no attention, convolutions of
residual blocks without bias, downsampling by averages. Where the width changes, a block computes h from its input and
returns h + shortcut(h) instead of adding the input, as published.

Shapes: B pictures, C channels, h x w latent grid, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.tokenizers.common.convolutional import Upsample
from arzoo.tokenizers.quantizers.base import exact
from arzoo.tokenizers.quantizers.vq import squared_distances


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig(Config):
    """Sizes of a `MaskGITAutoencoder`; the defaults are those of MAGE.

    Attributes:
        widths: Channels of each level, finest first; the grid halves between levels.
        blocks: Residual blocks per level, and in the middle.
        channels: Width C of a code.
        vocab: Number of codes.
    """

    widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    blocks: int = 2
    channels: int = 256
    vocab: int = 1024

    @property
    def factor(self) -> int:
        """Width of a code in pixels."""
        return 2 ** (len(self.widths) - 1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inner), nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.norm2, self.conv2 = _norm(outer), nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(outer, outer, 1, bias=False) if inner != outer else None

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (B, C, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(h))


def _blocks(inner: int, outer: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(inner if i == 0 else outer, outer) for i in range(count))


class MaskGITEncoder(nn.Module):
    """Map pictures to latents before quantization."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            _blocks(widths[max(i - 1, 0)], width, config.blocks) for i, width in enumerate(widths)
        )
        self.middle = _blocks(widths[-1], widths[-1], config.blocks)
        self.norm_out, self.conv_out = _norm(widths[-1]), nn.Conv2d(widths[-1], config.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, C, h, w)."""
        x = self.conv_in(x)
        for number, level in enumerate(self.levels):
            x = F.avg_pool2d(x, 2) if number else x
            for block in level:  # type: ignore[union-attr]
                x = block(x)
        for block in self.middle:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class MaskGITDecoder(nn.Module):
    """Map quantized or expected codes to pictures."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        deep = config.widths[::-1]
        self.conv_in = nn.Conv2d(config.channels, deep[0], 3, padding=1)
        self.middle = _blocks(deep[0], deep[0], config.blocks)
        self.levels = nn.ModuleList(
            _blocks(deep[max(i - 1, 0)], width, config.blocks) for i, width in enumerate(deep)
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in deep[:-1])
        self.norm_out, self.conv_out = _norm(deep[-1]), nn.Conv2d(deep[-1], 3, 3, padding=1)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the last convolution, at which the adaptive weight of the adversarial loss is computed."""
        return self.conv_out.weight

    def forward(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W) in about [0, 1]."""
        x = self.conv_in(z)
        for block in self.middle:
            x = block(x)
        for number, level in enumerate(self.levels):
            for block in level:  # type: ignore[union-attr]
                x = block(x)
            x = self.upsamples[number](x) if number < len(self.upsamples) else x
        return self.conv_out(F.silu(self.norm_out(x)))


class MaskGITAutoencoder(nn.Module):
    """Encoder, decoder and codebook."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = MaskGITEncoder(config), MaskGITDecoder(config)
        self.codebook = nn.Embedding(config.vocab, config.channels)

    def codes(self, latents: Tensor) -> Tensor:
        """Nearest codes (B, h * w) of latents (B, C, h, w)."""
        with exact(latents.device):
            flat = latents.float().flatten(2).transpose(1, 2)
            return squared_distances(flat, self.codebook.weight.float()).argmin(-1)

    def expected(self, logits: Tensor) -> Tensor:
        """Mean vectors (B, N, C) of code distributions, from logits (B, N, K)."""
        return logits.softmax(-1) @ self.codebook.weight
