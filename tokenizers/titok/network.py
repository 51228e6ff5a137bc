"""TiTok's networks, in both published layouts.

"An Image is Worth 32 Tokens for Reconstruction and Generation", 2024, section 3.2. The first published weights
("legacy") reshape (K, D) to (D, K) before the quantizer instead of transposing, so a token mixes all slots, and
predict the codes of MaskGIT's VQGAN, whose decoder makes the pixels; later ones transpose and predict pixels directly.

Shapes: B pictures, G patches, K tokens, Z channels of a token, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.tokenizers.common.transformer import Block, StackConfig, table, transform
from arzoo.tokenizers.vq.maskgit import MaskGITConfig

if TYPE_CHECKING:
    from arzoo.tokenizers.titok.tokenizer import TiTok


@dataclass(frozen=True, kw_only=True)
class TiTokConfig(Config):
    """Sizes of a `TiTok`.

    Attributes:
        image_size: Side of the square pictures.
        patch: Side of a patch in pixels.
        encoder: Stack of the encoder.
        decoder: Stack of the decoder.
        tokens: Number K of tokens of a picture.
        channels: Channels Z of a token.
        vocab: Number of codes; with 0 tokens are continuous, with a normal posterior.
        unit: Compare codes and vectors on the unit sphere.
        legacy: Use the first published layout: mixed slots, and codes of `pixels` instead of pixels.
        pixels: Autoencoder whose codes the legacy layout predicts.
        any_prefix: Trained with tokens dropped from the tail, so that prefixes decode to pictures (One-D-Piece).
    """

    image_size: int = 256
    patch: int = 16
    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    tokens: int = 128
    channels: int = 12
    vocab: int = 4096
    unit: bool = True
    legacy: bool = True
    pixels: MaskGITConfig = field(default_factory=MaskGITConfig)
    any_prefix: bool = False

    def __post_init__(self) -> None:
        least = {"patch": 1, "tokens": 1, "channels": 1, "vocab": 0}
        refuse_outside(self, "", {name: (low, math.inf) for name, low in least.items()})
        if self.image_size % self.patch:
            raise ArzooError(
                f"pictures of side {self.image_size} do not divide into patches of {self.patch} pixels"
            )

    def build(self) -> TiTok:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.titok.tokenizer import TiTok

        return TiTok(self)

    @property
    def grid(self) -> int:
        """Number of patches along a side."""
        return self.image_size // self.patch


class TiTokEncoder(nn.Module):
    """Map pictures to tokens before quantization."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        stack, self.legacy = config.encoder, config.legacy
        width, positions = stack.width, config.grid**2 + 1
        self.patches = nn.Conv2d(3, width, config.patch, config.patch)
        self.first, self.positions = table(width, 1, width), table(width, positions, width)
        self.slots, self.slot_positions = (table(width, config.tokens, width) for _ in range(2))
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, stack.heads) for _ in range(stack.depth))
        self.output = nn.Conv2d(width, config.channels * (1 if config.vocab else 2), 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, K, Z), or (B, K, 2Z) means and log-variances of continuous tokens."""
        grid = self.patches(x).flatten(2).transpose(1, 2)
        grid = torch.cat([self.first.expand(len(x), -1, -1), grid], 1) + self.positions
        slots = (self.slots + self.slot_positions).expand(len(x), -1, -1)
        h = self.norm_in(torch.cat([grid, slots], 1))
        h = self.norm_out(transform(self.blocks, h, slice(grid.shape[1], None)))
        columns = h.reshape(len(h), h.shape[2], h.shape[1]) if self.legacy else h.transpose(1, 2)
        return self.output(columns[..., None])[..., 0].transpose(1, 2)


class TiTokDecoder(nn.Module):
    """Map tokens to pictures, or to logits of the codes of another autoencoder."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        stack, self.patch, self.grid = config.decoder, config.patch, config.grid
        width, positions = stack.width, config.grid**2 + 1
        self.input = nn.Linear(config.channels, width)
        self.slot_positions = table(width, config.tokens, width)
        self.first, self.query = table(width, 1, width), table(width, 1, 1, width)
        self.positions = table(width, positions, width)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, stack.heads) for _ in range(stack.depth))
        self.legacy = config.legacy
        if config.legacy:
            self.head1 = nn.Conv2d(width, 2 * width, 1)
            self.head2 = nn.Conv2d(2 * width, config.pixels.vocab, 1)
        else:
            self.head1, self.head2 = nn.Conv2d(width, 3 * config.patch**2, 1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Decode tokens.

        Args:
            tokens: (B, k, Z), k <= K.
            kept: (B, k) bool, tokens that the decoder may use; None means all.

        Returns:
            (B, 3, H, W) pictures in about [0, 1]; in the legacy layout logits (B, G, codes).
        """
        grid = torch.cat([self.first, self.query[0].expand(self.grid**2, -1)]) + self.positions
        slots = self.input(tokens) + self.slot_positions[: tokens.shape[1]]
        x = self.norm_in(torch.cat([grid.expand(len(tokens), -1, -1), slots], 1))
        mask = None
        if kept is not None and not bool(kept.all()):
            mask = torch.cat([kept.new_ones(len(kept), len(grid)), kept], 1)[:, None, None]
        x = (
            self.norm_out(transform(self.blocks, x, slice(1, len(grid)), mask))
            .transpose(1, 2)
            .unflatten(2, (self.grid, self.grid))
        )
        if self.legacy:
            return self.head2(torch.tanh(self.head1(x))).flatten(2).transpose(1, 2)
        # The values of a patch are ordered row, column, channel; pixel_shuffle expects the channel first.
        values = self.head1(x).unflatten(1, (self.patch**2, 3)).transpose(1, 2).flatten(1, 2)
        return self.head2(F.pixel_shuffle(values, self.patch))
