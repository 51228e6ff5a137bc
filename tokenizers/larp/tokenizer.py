"""The LARP tokenizer: clips of one size to a fixed number of codes, and back."""

from __future__ import annotations

from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.tokenizers.common.still_pictures import to_unit
from arzoo.tokenizers.larp.network import LARPConfig, LARPDecoder, LARPEncoder
from arzoo.tokenizers.quantizers.base import exact
from arzoo.tokenizers.quantizers.stochastic import StochasticQuantizer
from arzoo.tokenizers.quantizers.vq import NearestCodes


class LARP(Tokenizer):
    """Tokenizer of clips as K codes.

    Every token sees the whole clip and has no place in it. `spec.layout` is nevertheless a grid of several frames,
    because that is how NAR reads their sequence (time slowest, columns fastest) and orders it by distance from the
    first; `spec.downscale` is empty, so nobody takes the cells of this grid for parts of the clip, and completion of
    regions or frames is refused. The plan `raster` draws the sequence as it is.

    Args:
        config: Sizes.
    """

    config: LARPConfig

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.frames = (config.image_size, config.image_size), config.frames
        self.spec = TokenSpec(Grid(*config.grid), vocab=config.vocab)
        self.encoder, self.decoder = LARPEncoder(config), LARPDecoder(config)
        self.to_code = nn.Linear(config.encoder.width, config.channels)
        self.from_code = nn.Linear(config.channels, config.decoder.width)
        self.quantizer = StochasticQuantizer(config.vocab, config.channels, config.temperature)

    def latents(self, x: Tensor) -> Tensor:
        """Vectors (B, K, C) before quantization, of clips in [-1, 1].

        Raises:
            ArzooError: See `Tokenizer.encode`.
        """
        size = (self.frames, *self.image_size)
        if x.dim() != 5 or x.shape[1] != 3 or tuple(x.shape[2:]) != size:
            expected = ", ".join(map(str, size))
            raise ArzooError(
                f"this tokenizer takes clips (B, 3, {expected}), got {tuple(x.shape)}. Take so many frames, and resize "
                "or crop them."
            )
        kind = self.to_code.weight.dtype
        h = self.encoder(to_unit(x).to(kind))
        with exact(h.device):
            return self.to_code(h.to(kind))  # autocast may have lowered h

    def forward(self, x: Tensor) -> tuple[Tensor, NearestCodes]:
        """Reconstruct clips: (B, 3, T, H, W), and the quantization.

        In training mode codes are drawn, otherwise they are the most similar ones.
        """
        quantized = self.quantizer(self.latents(x))
        return self.decode_latents(quantized.vectors), quantized

    def encode(self, x: Tensor, draws: Draws | None = None) -> Tokens:
        """Encode clips as codes (B, K).

        Args:
            x: Clips (B, 3, T, H, W) in [-1, 1].
            draws: Randomness for drawing the codes by similarity, one seed per clip, as the published code does unless
                told otherwise; without it the most similar ones are taken, as where generators are trained.

        Raises:
            ArzooError: They are not clips of the tokenizer's size.
        """
        z = self.latents(x)
        codes = (
            self.quantizer(z).codes if draws is None else draws.categorical(self.quantizer.probabilities(z))
        )
        return Tokens.of(codes, layout=self.spec.layout)

    def decode_latents(self, vectors: Tensor) -> Tensor:
        """Decode vectors (B, K, C) to clips (B, 3, T, H, W) in about [-1, 1]."""
        return self.decoder(self.from_code(vectors.to(self.from_code.weight.dtype))) * 2 - 1

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode codes to clips (B, 3, T, H, W) in about [-1, 1].

        Raises:
            ArzooError: They are not tokens of this tokenizer.
        """
        self.spec.require(tokens)
        return self.decode_latents(self.quantizer.vectors_of(tokens))
