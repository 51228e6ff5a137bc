"""LARP's networks: an encoder of learned queries, and a decoder of queries for patches.

"LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior", 2024, section 3.1, in the arithmetic of the
code published with it: fixed sine positions, no norm after the encoder, and a norm with another epsilon (1e-6) after
the decoder than in the blocks (1e-5).

Shapes: B clips, G patches, K tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.core.layout import Grid
from arzoo.tokenizers.common.transformer import Block, StackConfig, table, transform

if TYPE_CHECKING:
    from arzoo.tokenizers.larp.tokenizer import LARP


@dataclass(frozen=True, kw_only=True)
class LARPConfig(Config):
    """Sizes of a `LARP`.

    Attributes:
        frames: Frames of a clip.
        image_size: Side of the square frames.
        patch_frames: Frames of a patch.
        patch: Side of a patch in pixels.
        encoder: Stack of the encoder.
        decoder: Stack of the decoder.
        grid: (t, h, w), the grid as which the t * h * w tokens are read; see `LARP`.
        channels: Width of a code.
        vocab: Number of codes.
        temperature: Cosine similarities are divided by it where codes are drawn.
    """

    frames: int = 16
    image_size: int = 128
    patch_frames: int = 4
    patch: int = 8
    encoder: StackConfig = field(default_factory=lambda: StackConfig(width=768, depth=12, heads=12))
    decoder: StackConfig = field(default_factory=lambda: StackConfig(width=768, depth=12, heads=12))
    grid: tuple[int, int, int] = (4, 16, 16)
    channels: int = 16
    vocab: int = 8192
    temperature: float = 0.03

    def __post_init__(self) -> None:
        whole = ("frames", "image_size", "patch_frames", "patch", "channels", "vocab")
        refuse_outside(self, "", dict.fromkeys(whole, (1, math.inf)) | {"temperature": (1e-6, math.inf)})
        if self.frames % self.patch_frames or self.image_size % self.patch:
            raise ArzooError(
                f"{self.frames} frames of side {self.image_size} do not divide into patches of {self.patch_frames} "
                f"frames of {self.patch} pixels"
            )
        if self.grid[0] < 2:
            raise ArzooError(
                f"the tokens of a clip are read as a grid of several frames, got grid={self.grid}: a grid of one frame "
                "would pass for tokens that lie in a picture"
            )
        for stack in (self.encoder, self.decoder):
            if stack.width % 4:
                raise ArzooError(f"sine positions need a width that 4 divides, got {stack.width}")

    @property
    def patches(self) -> Grid:
        """Grid of the patches."""
        side = self.image_size // self.patch
        return Grid(self.frames // self.patch_frames, side, side)

    @property
    def tokens(self) -> int:
        """Number K of tokens."""
        return math.prod(self.grid)

    def build(self) -> LARP:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.larp.tokenizer import LARP

        return LARP(self)


def sines(width: int, positions: Tensor) -> Tensor:
    """Sines, then cosines, (n, width) float64, of positions (n,), with wavelengths from 2 pi to 10000 times that."""
    frequency = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = positions.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)


def place_table(grid: Grid, width: int) -> Tensor:
    """Positions (1, G, width) of patches: halves for column and row, in this order, and frames added to both."""
    frame, row, column = grid.coords().unbind(1)
    places = torch.cat([sines(width // 2, column), sines(width // 2, row)], 1) + sines(width, frame)
    return places.float()[None]


def order_table(count: int, width: int) -> Tensor:
    """Positions (1, K, width) of tokens in their sequence."""
    return sines(width, torch.arange(count)).float()[None]


class LARPEncoder(nn.Module):
    """Map clips to the vectors of the queries."""

    places: Tensor

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        stack, size = config.encoder, (config.patch_frames, config.patch, config.patch)
        self.patches = nn.Conv3d(3, stack.width, size, size)
        self.queries = table(stack.width, config.tokens, stack.width)
        self.blocks = nn.ModuleList(
            Block(stack.width, stack.heads, qkv_bias=False) for _ in range(stack.depth)
        )
        self.register_buffer("places", place_table(config.patches, stack.width), persistent=False)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, K, D)."""
        patches = self.patches(x).flatten(2).transpose(1, 2) + self.places
        h = torch.cat([patches, self.queries.expand(len(x), -1, -1)], 1)
        return transform(self.blocks, h, slice(patches.shape[1], None))


class LARPDecoder(nn.Module):
    """Map vectors of tokens to clips."""

    order: Tensor
    places: Tensor

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        stack, self.grid = config.decoder, config.patches
        self.size = config.patch_frames, config.patch, config.patch
        self.patch_type = table(stack.width, 1, 1, stack.width)
        self.blocks = nn.ModuleList(
            Block(stack.width, stack.heads, qkv_bias=False) for _ in range(stack.depth)
        )
        self.norm = nn.LayerNorm(stack.width, eps=1e-6)
        self.output = nn.Linear(stack.width, 3 * math.prod(self.size))
        self.register_buffer("order", order_table(config.tokens, stack.width), persistent=False)
        self.register_buffer("places", place_table(self.grid, stack.width), persistent=False)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `arzoo.core.contracts.Repeats`."""
        return list(self.blocks)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last layer, at which the gradients of loss terms are balanced."""
        return self.output.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K, D) -> (B, 3, T, H, W) in about [0, 1]."""
        queries = (self.places + self.patch_type).expand(len(tokens), -1, -1)
        h = torch.cat([tokens + self.order, queries], 1)
        values = self.output(self.norm(transform(self.blocks, h, slice(tokens.shape[1], None))))
        # The values of a patch are ordered frame, row, column, channel.
        x = values.view(len(tokens), *self.grid.shape, *self.size, 3).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(2, 3).flatten(3, 4).flatten(4, 5)
