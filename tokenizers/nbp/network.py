"""The causal convolutional tokenizer of NBP: encoder, finite scalar quantization, decoder.

"Next Block Prediction", 2025, in the arithmetic of the published code.

Shapes: B clips, C channels of a code, T frames, H x W pixels, t x h x w tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.causal import (
    CausalConv3d,
    CausalSequence,
    CausalStyle,
    DepthToSpace,
    FrameNorm,
    ResidualUnit,
    Size,
    Swish,
    Tails,
    in_turn,
)
from arzoo.tokenizers.common.grid import grid_of
from arzoo.tokenizers.quantizers.base import Quantization
from arzoo.tokenizers.quantizers.fsq import FSQ

AT_ONCE = 1 << 16
"""Pixels of all clips that pass at once where no gradients are needed: four frames of 128 x 128 pixels."""


@dataclass(frozen=True, kw_only=True)
class NBPTokenizerConfig(Config):
    """Sizes of an `NBPTokenizer`; the defaults are the published ones.

    Attributes:
        image_size: Side of the square frames.
        frames: Frames of a clip.
        widths: Encoder channels of each level, finest first.
        decoder_widths: The same for the decoder; () means the encoder's.
        blocks: Residual units per level.
        middle: Further residual units of the coarsest level.
        strides: By how much (frames, rows, columns) shrink from each level to the next.
        unshuffle: Side of the patches that the first and last convolutions see as one pixel.
        levels: Levels of every channel of a code, see `FSQ`.
        style: Details of the blocks.
    """

    image_size: int = 128
    frames: int = 17
    widths: tuple[int, ...] = (128, 256, 256, 512)
    decoder_widths: tuple[int, ...] = ()
    blocks: int = 4
    middle: int = 4
    strides: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
    unshuffle: int = 1
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    style: CausalStyle = field(default_factory=CausalStyle)

    def __post_init__(self) -> None:
        both = (self.widths, self.decoder_widths or self.widths)
        if any(len(widths) != len(self.strides) + 1 for widths in both):
            raise ArzooError(
                f"{len(self.strides)} strides lie between {len(self.strides) + 1} levels, got the widths "
                f"{' and '.join(map(str, both))}"
            )
        frames, rows, columns = self.downscale
        if (self.frames - 1) % frames or self.image_size % rows or self.image_size % columns:
            raise ArzooError(
                f"clips of {self.frames} frames of side {self.image_size} do not fit tokens of {self.downscale} "
                f"(frames, rows, columns): take 1 + a multiple of {frames} frames, and a side that the others divide"
            )

    @property
    def downscale(self) -> Size:
        """(frames, rows, columns) of pixels that a token covers."""
        frames, rows, columns = (math.prod(axis) for axis in zip(*self.strides, strict=True))
        return frames, rows * self.unshuffle, columns * self.unshuffle

    def build(self) -> NBPTokenizer:
        """Build a tokenizer with newly initialized weights."""
        return NBPTokenizer(self)


class ClipEncoder(CausalSequence):
    """Clips to vectors: (B, 3 * unshuffle^2, T, H, W) -> (B, C, t, h, w)."""

    def __init__(self, config: NBPTokenizerConfig) -> None:
        widths, style = config.widths, config.style
        blocks: list[nn.Module] = [CausalConv3d(3 * config.unshuffle**2, widths[0], style=style)]
        for number, width in enumerate(widths):
            last = number == len(widths) - 1
            blocks += _units(widths[max(number - 1, 0)], width, config.blocks + config.middle * last, style)
            if not last:
                blocks.append(CausalConv3d(width, width, stride=config.strides[number], style=style))
        blocks += [FrameNorm(widths[-1], style), Swish(widths[-1], style)]
        super().__init__(*blocks, nn.Conv3d(widths[-1], len(config.levels), 1))


class ClipDecoder(CausalSequence):
    """Vectors to clips: (B, C, t, h, w) -> (B, 3 * unshuffle^2, T, H, W)."""

    def __init__(self, config: NBPTokenizerConfig) -> None:
        deep, style = (config.decoder_widths or config.widths)[::-1], config.style
        blocks: list[nn.Module] = [CausalConv3d(len(config.levels), deep[0], style=style)]
        for number, width in enumerate(deep):
            first, last = number == 0, number == len(deep) - 1
            blocks += _units(deep[max(number - 1, 0)], width, config.blocks + config.middle * first, style)
            if not last:
                factors = config.strides[-1 - number]
                blocks.append(CausalConv3d(width, width * math.prod(factors), style=style))
                blocks.append(DepthToSpace(factors, style))
        blocks += [FrameNorm(deep[-1], style), Swish(deep[-1], style)]
        super().__init__(*blocks, CausalConv3d(deep[-1], 3 * config.unshuffle**2, style=style))
        slower = [
            i for i, block in enumerate(self) if isinstance(block, DepthToSpace) and block.factors[0] > 1
        ]
        self._full_rate = (
            max(slower, default=-1) + 1
        )  # from this block on there are as many frames as in the clip

    def forward(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Transform features. The largest ones of a group of frames are computed frame by frame, which saves memory."""
        if tails is None:
            return super().forward(x)
        blocks = list(self)
        x = in_turn(blocks[: self._full_rate], x, tails)
        return torch.cat([in_turn(blocks[self._full_rate :], frame, tails) for frame in x.split(1, 2)], 2)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the last convolution, at which the adaptive weight of an adversarial loss is computed."""
        last = self[-1]
        assert isinstance(last, CausalConv3d)
        return last.conv.weight


def _units(inner: int, outer: int, count: int, style: CausalStyle) -> list[nn.Module]:
    """Residual units, the first of which changes the width."""
    return [ResidualUnit(inner if number == 0 else outer, outer, style) for number in range(count)]


class NBPTokenizer(Tokenizer):
    """Tokenizer of clips as a grid of codes. Clips of other sizes work as long as `TokenSpec.layout_of` accepts them.

    Args:
        config: Sizes.
    """

    config: NBPTokenizerConfig

    def __init__(self, config: NBPTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.image_size = config.frames, (config.image_size, config.image_size)
        self.strictly_causal = config.style.norm_per == "frame"
        # NBP narrows the range of the levels and inverts with tan, see `FSQ`.
        self.quantizer = FSQ(config.levels, eps=-1e-3, shift="tan")
        frames, rows, columns = config.downscale
        grid = Grid(
            1 + (config.frames - 1) // frames, config.image_size // rows, config.image_size // columns
        )
        self.spec = TokenSpec(grid, vocab=self.quantizer.vocab, downscale=config.downscale, first_alone=True)
        self.encoder, self.decoder = ClipEncoder(config), ClipDecoder(config)

    def latents(self, x: Tensor, tails: Tails | None = None) -> Tensor:
        """Vectors before quantization: (B, 3, T, H, W) in [-1, 1] -> (B, t, h, w, C).

        Args:
            x: Clips, or with `tails` the next frames of them.
            tails: What earlier frames left, see `Causal`.
        """
        x = ((x.transpose(1, 2) + 1) / 2).to(self.decoder.last_layer.dtype)
        if self.config.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.config.unshuffle)
        x = x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        return self.encoder(x, tails).permute(0, 2, 3, 4, 1)

    def decode_latents(self, vectors: Tensor, tails: Tails | None = None) -> Tensor:
        """Decode quantized vectors (B, t, h, w, C), or the next ones, to frames (B, 3, T, H, W) in about [-1, 1]."""
        x = vectors.permute(0, 4, 1, 2, 3).to(self.decoder.last_layer.dtype)
        x = self.decoder(x, tails).transpose(1, 2)
        if self.config.unshuffle > 1:
            x = F.pixel_shuffle(x, self.config.unshuffle)
        return x.transpose(1, 2).float() * 2 - 1

    def forward(self, x: Tensor) -> tuple[Tensor, Quantization]:
        """Reconstruct clips: (B, 3, T, H, W), and the quantization of their vectors."""
        grid_of(x, self.spec)
        quantized = self.quantizer(self.latents(x))
        return self.decode_latents(quantized.vectors), quantized

    def encode(self, x: Tensor) -> Tokens:
        """Encode clips (B, 3, T, H, W) as codes (B, t * h * w). Without gradients, long clips pass in groups."""
        grid = grid_of(x, self.spec)
        count = self._at_once(len(x), grid)
        if count < grid.t:
            frames = self.config.downscale[0]
            first, rest = x.split([1 + (count - 1) * frames, (grid.t - count) * frames], 2)
            codes = torch.cat(list(self.encode_groups([first, *rest.split(count * frames, 2)])), 1)
        else:
            codes = self.quantizer(self.latents(x)).codes
        return Tokens.of(codes.flatten(1), layout=grid)

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode codes to clips (B, 3, T, H, W). Without gradients, long clips pass in groups."""
        grid = self.spec.require(tokens)
        assert isinstance(grid, Grid)
        vectors = self.quantizer.vectors_of(tokens).unflatten(1, grid.shape)
        count = self._at_once(len(vectors), grid)
        if count == grid.t:
            return self.decode_latents(vectors)
        return torch.cat(list(self._decode_in_turn(vectors.split(count, 1))), 2)

    def encode_groups(self, groups: Iterable[Tensor]) -> Iterator[Tensor]:
        """Encode clips that arrive in groups of frames; memory does not grow with their length.

        Args:
            groups: Consecutive frames (B, 3, n, H, W) in [-1, 1], n a multiple of the frames of a token; the first
                group has one frame more.

        Yields:
            The codes (B, n, h, w) of each group, those of `encode` up to rounding.

        Raises:
            ArzooError: A group has another shape, or the tokenizer is not causal.
        """
        self._require_causal()
        tails: Tails = {}
        frames, first = self.config.downscale[0], torch.Size()
        for group in groups:
            shape = group.shape[:2] + group.shape[3:]
            if not tails:
                grid_of(group, self.spec)
                first = shape
            elif shape != first or group.shape[2] % frames or not group.shape[2]:
                batch, _, height, width = first
                raise ArzooError(
                    f"after the first, groups of frames are ({batch}, 3, a multiple of {frames}, {height}, {width}), "
                    f"got {tuple(group.shape)}"
                )
            yield self.quantizer(self.latents(group, tails)).codes

    def decode_groups(self, groups: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode clips whose codes arrive in groups; memory does not grow with their length.

        Args:
            groups: Codes (B, n, h, w) of consecutive frames of tokens.

        Yields:
            The frames (B, 3, n, H, W) of each group, those of `decode` up to rounding.

        Raises:
            ArzooError: They are no codes of this tokenizer, or it is not causal.
        """
        self._require_causal()
        yield from self._decode_in_turn(map(self._vectors_of, groups))

    def _vectors_of(self, codes: Tensor) -> Tensor:
        """Vectors (B, n, h, w, C) of codes (B, n, h, w)."""
        self.spec.require(Tokens.of(codes.flatten(1), layout=Grid(*codes.shape[1:])))
        return self.quantizer.lookup(codes)

    def _decode_in_turn(self, groups: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode vectors (B, n, h, w, C) of consecutive frames of tokens, a group at a time."""
        tails: Tails = {}
        for vectors in groups:
            yield self.decode_latents(vectors, tails)

    def _at_once(self, batch: int, grid: Grid) -> int:
        """Frames of tokens that are encoded or decoded at once: all, or as many as need little memory."""
        if torch.is_grad_enabled() or not self.strictly_causal:
            return grid.t
        return max(1, AT_ONCE // (batch * grid.h * grid.w * math.prod(self.config.downscale)))

    def _require_causal(self) -> None:
        if not self.strictly_causal:
            raise ArzooError(
                "this tokenizer normalizes over whole clips (style.norm_per=clip), so it cannot take them in groups of "
                "frames: encode and decode them whole"
            )
