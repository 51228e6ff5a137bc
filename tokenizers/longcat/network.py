"""Networks of LongCat-Next's visual tokenizer: encoder with windows and bridge, and pixel decoder.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026; the encoder and the bridge are those of "Qwen2.5-VL
Technical Report", 2025, section 2.1. Both networks see packed pictures of any sizes.

Shapes: N tokens of all pictures, S patches of all pictures, P numbers of a patch, C channels of a code, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.models.common.activations import gelu
from arzoo.models.common.attention import SwiGLU
from arzoo.models.common.packing import Segments
from arzoo.models.common.rope import require_rotary, rotate
from arzoo.tokenizers.longcat.patches import Places

if TYPE_CHECKING:
    from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer

EPS = 1e-6
"""Epsilon of the RMSNorms."""


@dataclass(frozen=True, kw_only=True)
class PackedStackConfig(Config):
    """A stack of `PackedBlock`.

    Attributes:
        width: Channels D.
        depth: Blocks.
        heads: Attention heads.
        hidden: Hidden units of the gated feed-forward layers.
    """

    width: int = 128
    depth: int = 6
    heads: int = 4
    hidden: int = 344

    def __post_init__(self) -> None:
        refuse_outside(self, "", dict.fromkeys(("width", "depth", "heads", "hidden"), (1, math.inf)))
        require_rotary(self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class LongCatConfig(Config):
    """Sizes of a `LongCatTokenizer`.

    Attributes:
        image_size: Side of the square pictures that it is made for; all other sizes work too.
        least_pixels: Smallest number of pixels of a picture.
        most_pixels: Largest number of pixels of a picture.
        patch: Side of a patch in pixels.
        merge: Patches along the side of a token.
        patch_frames: Number of times that a patch repeats a still picture, for networks made for clips.
        encoder: Stack of the encoder.
        window: Side of the windows in tokens.
        full: Numbers of the encoder's blocks that attend to the whole picture instead of a window.
        bridge: Channels of a token behind the bridge.
        vocab: Codes of a level.
        code_channels: Channels C of a code.
        codebooks: Codes Q of a token.
        shared: All levels have one codebook instead of one each.
        codebook_dropout: Probability that a token in training keeps only its first levels.
        decay: If not 0, codes are running averages of what they quantize, of this decay; else they have gradients.
        decoder: Stack of the pixel decoder; None if it only encodes.
        clip_colors: Scale colors as CLIP does.
        row_by_row: The pixel decoder rotates by wrong places, see `patches.Places`, as published.
        scaled_twice: The pixel decoder divides attention scores by the square root of a head's channels once more, as
            published.
    """

    image_size: int = 64
    least_pixels: int = 64
    most_pixels: int = 256 * 256
    patch: int = 4
    merge: int = 2
    patch_frames: int = 1
    encoder: PackedStackConfig = field(default_factory=PackedStackConfig)
    window: int = 4
    full: tuple[int, ...] = (2, 5)
    bridge: int = 128
    vocab: int = 512
    code_channels: int = 16
    codebooks: int = 4
    shared: bool = False
    codebook_dropout: float = 0.0
    decay: float = 0.0
    decoder: PackedStackConfig | None = field(default_factory=PackedStackConfig)
    clip_colors: bool = False
    row_by_row: bool = False
    scaled_twice: bool = False

    def __post_init__(self) -> None:
        sizes = ("patch", "merge", "patch_frames", "window", "bridge", "vocab", "code_channels", "codebooks")
        refuse_outside(self, "", dict.fromkeys((*sizes, "least_pixels", "most_pixels"), (1, math.inf)))
        refuse_outside(self, "", {"codebook_dropout": (0, 1)})
        if not 0 <= self.decay < 1:
            raise ArzooError(f"decay must be from 0 to below 1, got {self.decay}")
        if self.image_size % self.factor:
            raise ArzooError(
                f"pictures of side {self.image_size} do not divide into tokens of {self.factor} pixels "
                f"({self.merge} patches of {self.patch})"
            )
        if not self.least_pixels <= self.image_size**2 <= self.most_pixels:
            raise ArzooError(
                f"pictures of {self.image_size} x {self.image_size} pixels are outside of {self.least_pixels} to "
                f"{self.most_pixels} pixels: change image_size, least_pixels or most_pixels"
            )
        if wrong := [number for number in self.full if not 0 <= number < self.encoder.depth]:
            raise ArzooError(
                f"full must name blocks 0 to {self.encoder.depth - 1} of the encoder, got {wrong[0]}"
            )

    @property
    def factor(self) -> int:
        """Width of a token in pixels."""
        return self.patch * self.merge

    @property
    def numbers(self) -> int:
        """Numbers P of a patch."""
        return 3 * self.patch_frames * self.patch**2

    def build(self) -> LongCatTokenizer:
        """Build a tokenizer with newly initialized weights."""
        from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer

        return LongCatTokenizer(self)


class PackedBlock(nn.Module):
    """Pre-norm transformer block with RMSNorm, biases and rotary positions; `qkv` is [q | k | v].

    Args:
        stack: Sizes.
        scale: Factor of the attention scores beside the usual one.
    """

    def __init__(self, stack: PackedStackConfig, scale: float = 1.0) -> None:
        super().__init__()
        width, self.heads, self.scale = stack.width, stack.heads, scale
        self.norm1, self.norm2 = nn.RMSNorm(width, EPS), nn.RMSNorm(width, EPS)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = SwiGLU(width, stack.hidden, bias=True)

    def forward(self, x_SD: Tensor, turns: Tensor, segments: Segments) -> Tensor:
        """Transform patches, each of which attends to its segment; `turns` (1, S, 1, d / 2) as of `Places`."""
        heads = self.qkv(self.norm1(x_SD))[None].unflatten(2, (3 * self.heads, -1))
        turned, v = heads.split([2 * self.heads, self.heads], 2)
        q, k = rotate(turned, turns)[0].chunk(2, 1)
        if self.scale != 1:
            q = q * self.scale
        x_SD = x_SD + self.proj(segments.attend(q, k, v[0]))
        return x_SD + self.mlp(self.norm2(x_SD))


class LongCatEncoder(nn.Module):
    """Map patches to one vector per token: blocks, most of them within windows, then the bridge and `quant_conv`."""

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        width, area = config.encoder.width, config.merge**2
        self.area, self.full = area, frozenset(config.full)
        self.input = nn.Linear(config.numbers, width, bias=False)
        self.blocks = nn.ModuleList(PackedBlock(config.encoder) for _ in range(config.encoder.depth))
        self.bridge_norm = nn.RMSNorm(width, EPS)
        self.bridge1, self.bridge2 = (
            nn.Linear(area * width, area * width),
            nn.Linear(area * width, config.bridge),
        )
        self.code_norm = nn.LayerNorm(config.bridge)
        self.code1 = nn.Linear(config.bridge, config.bridge)
        self.code2 = nn.Linear(config.bridge, config.code_channels)

    def forward(self, patches: Tensor, places: Places) -> Tensor:
        """Encode patches (S, P), tokens in raster order, as vectors (N, C); `places` with windows."""
        tokens = places.by_window(patches.unflatten(0, (-1, self.area)))
        x = self.input(tokens.flatten(0, 1))
        for number, block in enumerate(self.blocks):
            x = block(x, places.turns, places.pictures if number in self.full else places.windows)
        merged = self.bridge_norm(x).view(-1, self.area * x.shape[1])
        bridged = places.by_row(self.bridge2(gelu(self.bridge1(merged))))
        return self.code2(gelu(self.code1(self.code_norm(bridged))))


class PixelDecoder(nn.Module):
    """Map quantized vectors to patches: every token becomes its patches again, which attend to the whole picture."""

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        assert config.decoder is not None
        stack, self.area = config.decoder, config.merge**2
        width = stack.width
        self.input, self.input_norm = nn.Linear(config.code_channels, width), nn.RMSNorm(width, EPS)
        self.split_norm = nn.RMSNorm(width, EPS)
        self.split1, self.split2 = (
            nn.Linear(width, self.area * width),
            nn.Linear(self.area * width, self.area * width),
        )
        self.norm_in, self.norm_out = nn.RMSNorm(width, EPS), nn.RMSNorm(width, EPS)
        scale = (width // stack.heads) ** -0.5 if config.scaled_twice else 1.0
        self.blocks = nn.ModuleList(PackedBlock(stack, scale) for _ in range(stack.depth))
        self.head1, self.head2 = nn.Linear(width, stack.hidden), nn.Linear(stack.hidden, config.numbers)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the last layer, for the adaptive weight of adversarial losses."""
        return self.head2.weight

    def forward(self, vectors: Tensor, places: Places) -> Tensor:
        """Decode vectors (N, C) in raster order to patches (S, P); `places` without windows."""
        x = self.input_norm(self.input(vectors))
        x = self.split2(gelu(self.split1(self.split_norm(x))))
        x = self.norm_in(x.view(len(x) * self.area, -1))
        for block in self.blocks:
            x = block(x, places.turns, places.pictures)
        return self.head2(gelu(self.head1(self.norm_out(x))))
