"""VQ tokenizers on a grid: LlamaGen's VQ-16 and VQ-8, and small ones.

"Autoregressive Model Beats Diffusion", 2024, section 2.1. With several codes per position, each level quantizes what
the levels before it leave ("Autoregressive Image Generation using Residual Quantization", 2022, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.clips import unfold_frames
from arzoo.core.tokens import Tokens
from arzoo.tokenizers.common.convolutional import Decoder, Encoder
from arzoo.tokenizers.common.grid import GridTokenizer, GridTokenizerConfig
from arzoo.tokenizers.quantizers.base import Quantization
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.tokenizers.quantizers.vq import VectorQuantizer

DECAY = 0.99
"""Share of the old average that a step keeps, of residual codes, which are running averages of what they quantize."""


@dataclass(frozen=True, kw_only=True)
class VQTokenizerConfig(GridTokenizerConfig):
    """Sizes of a `VQTokenizer`, in addition to those of `GridTokenizerConfig`.

    Attributes:
        latent: Channels between the convolutions and the projections of the codebook.
        attention: Attend at the deepest level and in the middle.
        vocab: Number of codes, of each level.
        code_channels: Width of a code.
        codebooks: Codes per position; with more than one, codes are not normalized, and averages instead of learned.
    """

    latent: int = 256
    attention: bool = True
    vocab: int = 16384
    code_channels: int = 8
    codebooks: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codebooks < 1:
            raise ArzooError(f"a position has at least one code, got codebooks={self.codebooks}")

    def build(self) -> VQTokenizer:
        """Build a tokenizer with newly initialized weights."""
        return VQTokenizer(self)


class VQTokenizer(GridTokenizer):
    """Tokenizer of pictures as a grid of codes; F counts the frames of all clips."""

    config: VQTokenizerConfig
    precise: ClassVar[tuple[str, ...]] = ("encoder.levels.", "encoder.conv_out.")
    """Prefixes of weights that are not stored in 8 bits: 0.6 % of the codes of `vq_emoji64` would change."""

    def __init__(self, config: VQTokenizerConfig) -> None:
        super().__init__(config, vocab=config.vocab, codebooks=config.codebooks)
        shared = (config.latent, "deepest" if config.attention else "none", config.unshuffle)
        self.encoder = Encoder(config.widths, config.encoder_blocks, *shared)
        self.decoder = Decoder(config.decoder_widths or config.widths, config.decoder_blocks, *shared)
        self.to_code = nn.Conv2d(config.latent, config.code_channels, 1)
        self.from_code = nn.Conv2d(config.code_channels, config.latent, 1)
        self.quantizer: VectorQuantizer | ResidualVQ = (
            VectorQuantizer(config.vocab, config.code_channels)
            if config.codebooks == 1
            else ResidualVQ(config.vocab, config.code_channels, config.codebooks, decay=DECAY)
        )

    def latents(self, frames: Tensor) -> Tensor:
        """Vectors before quantization: (F, 3, H, W) in [-1, 1] -> (F, h, w, C)."""
        return self.to_code(self.encoder(frames)).permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantization]:
        """Reconstruct clips: (B, 3, T, H, W), and the quantization of all their frames."""
        quantized = self.quantizer(self.latents(self.frames_of(x)))
        return unfold_frames(self.decode_latents(quantized.vectors), len(x)), quantized

    def encode(self, x: Tensor) -> Tokens:
        """Encode clips (B, 3, T, H, W) as codes (B, T * h * w), or (B, T * h * w, Q) of Q levels."""
        return self.tokens(self.quantizer(self.latents(self.frames_of(x))).codes.flatten(1, 2), x)

    def decode_latents(self, vectors: Tensor) -> Tensor:
        """Decode quantized vectors (F, h, w, C) to frames (F, 3, H, W)."""
        return self.decoder(self.from_code(vectors.permute(0, 3, 1, 2).to(self.from_code.weight.dtype)))

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode codes to clips (B, 3, T, H, W).

        The convolution algorithm, and with it the last bits of a picture, depends on the batch size: decode pictures
        one by one where they must not depend on the batch.
        """
        codes, grid = self.by_frame(tokens)
        vectors = self.quantizer.vectors_of(tokens).reshape(len(codes), *grid, -1)
        return unfold_frames(self.decode_latents(vectors), len(tokens.values))
