"""Multi-scale VQ tokenizers: the one of VAR, and small ones.

"Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction", 2024, section 3.2. Encoder and
decoder are those of `common.convolutional`, the bottleneck is `MultiScaleQuantizer`. The first levels alone are a
picture, and so is any set of tokens: what is missing adds nothing.

Shapes: B pictures, H x W pixels, C channels, h x w finest grid, N positions of all levels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Pyramid
from arzoo.core.pyramid import square_levels
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.convolutional import Decoder, Encoder
from arzoo.tokenizers.common.grid import GridTokenizerConfig
from arzoo.tokenizers.common.still_pictures import pictures_of
from arzoo.tokenizers.quantizers.base import Quantization, exact
from arzoo.tokenizers.quantizers.multi_scale import LevelSums, MultiScaleQuantizer, shared_by


@dataclass(frozen=True, kw_only=True)
class MultiScaleTokenizerConfig(GridTokenizerConfig):
    """Sizes of a `MultiScaleTokenizer`, in addition to those of `GridTokenizerConfig`. The defaults are VAR's.

    Attributes:
        levels: Sides of the levels, rising to that of the finest grid.
        attention: Attend at the deepest level of the networks and in their middle.
        vocab: Number of codes, which all levels share.
        code_channels: Width of a code.
        convolutions: Convolutions after the enlargement, which neighboring levels share.
        cosine: Take the code of the nearest direction instead of the nearest code.
    """

    widths: tuple[int, ...] = (160, 160, 320, 320, 640)
    encoder_blocks: int = 2
    levels: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    attention: bool = True
    vocab: int = 4096
    code_channels: int = 32
    convolutions: int = 4
    cosine: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        side = self.image_size // self.factor
        rising = all(small < large for small, large in itertools.pairwise((0, *self.levels)))
        if not self.levels or not rising or self.levels[-1] != side:
            raise ArzooError(
                f"levels {list(self.levels)} must rise from at least 1 to {side}, the side of the grid of pictures of "
                f"{self.image_size} pixels with {self.factor} pixels a token. End them there, or change image_size"
            )
        if self.frames != 1:
            raise ArzooError(
                f"a multi-scale VQ tokenizer is for still pictures, got frames={self.frames}: set it to 1"
            )
        shared_by(len(self.levels), self.convolutions)  # refuses none

    @property
    def layout(self) -> Pyramid:
        """Positions of the tokens."""
        return square_levels(self.levels)

    def build(self) -> MultiScaleTokenizer:
        """Build a tokenizer with newly initialized weights."""
        return MultiScaleTokenizer(self)


class MultiScaleTokenizer(Tokenizer):
    """Tokenizer of pictures as a pyramid of codes."""

    config: MultiScaleTokenizerConfig
    precise: ClassVar[tuple[str, ...]] = (
        "encoder.levels.", "encoder.conv_out.", "to_code.", "quantizer.convolutions.",
    )  # fmt: skip
    """Prefixes of weights that are not stored in 8 bits, because they decide codes."""

    def __init__(self, config: MultiScaleTokenizerConfig) -> None:
        super().__init__()
        self.config, self.image_size = config, (config.image_size, config.image_size)
        shared = (config.code_channels, "deepest" if config.attention else "none", config.unshuffle)
        self.encoder = Encoder(config.widths, config.encoder_blocks, *shared)
        self.decoder = Decoder(config.decoder_widths or config.widths, config.decoder_blocks, *shared)
        self.to_code, self.from_code = (
            nn.Conv2d(config.code_channels, config.code_channels, 3, padding=1) for _ in range(2)
        )
        self.quantizer = MultiScaleQuantizer(
            config.vocab, config.code_channels, config.layout, config.convolutions, config.cosine
        )
        self.spec = TokenSpec(
            config.layout, vocab=config.vocab, prefix_ok=True, canvas=LevelSums(self.quantizer)
        )

    def latents(self, x: Tensor) -> Tensor:
        """Vectors before quantization: clips (B, 3, 1, H, W) in [-1, 1] -> (B, C, h, w)."""
        return self.to_code(self.encoder(pictures_of(x, self.image_size)))

    @torch.no_grad()
    def residuals(self, x: Tensor) -> Tensor:
        """Vectors (B, N, C) that the levels quantize, of clips (B, 3, 1, H, W) in [-1, 1]."""
        z = self.latents(x)
        with exact(z.device):
            return torch.cat([vectors for _, _, vectors in self.quantizer.by_level(z.float())], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantization]:
        """Reconstruct clips (B, 3, 1, H, W), and their quantization."""
        quantized = self.quantizer(self.latents(x))
        return as_clips(self.decode_latents(quantized.vectors)), quantized

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tokens:
        """Encode clips (B, 3, 1, H, W) as codes (B, N) of all levels, coarse to fine."""
        z = self.latents(x)
        with exact(z.device):
            codes = [codes for codes, _, _ in self.quantizer.by_level(z.float())]
        return Tokens.of(torch.cat(codes, 1), layout=self.spec.layout)

    def decode_latents(self, z: Tensor) -> Tensor:
        """Decode sums of levels (B, C, h, w) to pictures (B, 3, H, W)."""
        return self.decoder(self.from_code(z.to(self.from_code.weight.dtype)))

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode codes to clips (B, 3, 1, H, W); positions without a token add nothing, at whatever level they are.

        Mixtures of codes (`Tokens.mixed`) take their place. The last bits may depend on the batch size.
        """
        self.spec.require(tokens)
        vectors = tokens.vectors(self.quantizer.table)
        return as_clips(self.decode_latents(self.quantizer.summed(vectors, tokens.present)))
